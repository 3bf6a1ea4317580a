"""A model of two modalities, small enough for any test, and rows for it."""

import numpy as np
import tensorflow as tf

import mmkeras as mk

SPECS = {"picture": mk.Image(size=8), "numbers": mk.Vector(size=3, normalize=False)}


def build(**kwargs):
    """Returns the model; see `mk.assemble` for the arguments."""
    return mk.assemble(
        SPECS,
        {"picture": {"name": "cnn", "filters": (8,)}},
        "concatenation",
        {"label": mk.heads.Classifier(("a", "b"))},
        hidden_dim=8,
        **kwargs,
    )


def rows(rng, count=20):
    """Returns batches of 4 with absent pictures and numbers."""
    x = {
        "picture": rng.integers(0, 255, (count, 8, 8, 3)).astype("uint8"),
        "picture_mask": np.arange(count) % 4 > 0,
        "numbers": rng.normal(size=(count, 3)).astype("float32"),
        "numbers_mask": np.arange(count) % 4 > 1,
    }
    return tf.data.Dataset.from_tensor_slices((x, {"label": np.arange(count) % 2})).batch(4)
