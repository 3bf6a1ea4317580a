"""Runs the masked objectives and matching on JAX: `KERAS_BACKEND=jax python -m ...jax_masked`."""

import os
import sys

import keras
import numpy as np

import mmkeras as mk
from tests.objectives import inputs


def outputs():
    """Returns what every objective counts, of fixed rows."""
    heads = {
        "match": mk.objectives.Contrastive(4),
        "pairing": mk.objectives.Matching("match", modalities=("image", "text")),
        **inputs.heads(),
    }
    whole = mk.assemble(inputs.SPECS, inputs.ENCODERS, inputs.FUSION, heads, hidden_dim=8)
    found = whole.predict_on_batch(inputs.batch())
    return {name: np.asarray(part) for name, part in found.items() if name != "match"}


if __name__ == "__main__":
    found = outputs()
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"] == "jax"
    assert not any(name.startswith("mmkeras.data") for name in sys.modules)
    np.savez(sys.argv[1], **found)
