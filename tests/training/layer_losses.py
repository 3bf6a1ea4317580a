"""Losses that layers add, on 1 device and on 2 replicas; run as a file.

python layer_losses.py OUT.json: writes, per case, the largest difference of weights and of losses
between one device and two logical replicas.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk

mirrored = mk.training.strategy("cpu:2")

SPECS = {"a": mk.Vector(size=3, normalize=False), "b": mk.Vector(size=2, normalize=False)}
rng = np.random.default_rng(0)
x = {
    "a": rng.standard_normal((38, 3)).astype("float32"),
    "a_mask": rng.random(38) < 0.7,
    "b": rng.standard_normal((38, 2)).astype("float32"),
    "b_mask": rng.random(38) < 0.7,
}
y = {"answer": rng.integers(0, 2, 38)}
weights = {"answer": rng.uniform(0.5, 1.5, 38).astype("float32")}


def run(strategy, fusion, jit, size):
    """Weights and losses of two epochs."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    rows = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(size)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            SPECS, None, fusion, {"answer": mk.heads.Classifier(("no", "yes"))}, hidden_dim=8
        )
        model.compile(keras.optimizers.SGD(0.1), jit=jit)
    history = model.fit(rows, epochs=2, verbose=0, validation_data=rows).history
    return [v.numpy() for v in model.trainable_variables] + [
        np.array(history[name]) for name in ("loss", "val_loss", "answer_loss")
    ]


CASES = {
    "trusted": ("trusted", False, 19),
    "trusted, xla": ("trusted", True, 2),
    "shared_private": ("shared_private", False, 19),
}


def difference(a, b):
    return float(max(np.abs(p - q).max() for p, q in zip(a, b, strict=True)))


out = {name: difference(run(None, *case), run(mirrored, *case)) for name, case in CASES.items()}
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
