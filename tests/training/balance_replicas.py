"""Balanced training on 1 device and on 2 replicas; run as a file.

python balance_replicas.py OUT.json: writes, per case, the largest difference of weights and of logs
between one device and two logical replicas, and how far the weights moved.
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
ENCODER = {"name": "mlp", "hidden_dim": 8, "num_layers": 1}
rng = np.random.default_rng(0)
x = {
    "a": rng.standard_normal((38, 3)).astype("float32"),
    "a_mask": rng.random(38) < 0.7,
    "b": rng.standard_normal((38, 2)).astype("float32"),
    "b_mask": rng.random(38) < 0.7,
}
y = {"answer": rng.integers(0, 2, 38)}
weights = {"answer": rng.uniform(0.5, 1.5, 38).astype("float32")}
# Blending divides by the square of the overfitting, and so by that of its rounding where there is
# none: the validation data are others.
other = {m: part[::-1] + 0.5 if m in SPECS else part for m, part in x.items()}
held = tf.data.Dataset.from_tensor_slices((other, y, weights)).batch(19)


def run(strategy, remedy, size, rows, epochs=2, **options):
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    parts = tf.nest.map_structure(lambda part: part[:rows], (x, y, weights))
    data = tf.data.Dataset.from_tensor_slices(parts).batch(size)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            SPECS,
            dict.fromkeys(SPECS, ENCODER),
            "concatenation",
            {"answer": mk.heads.Classifier(("no", "yes"))},
            hidden_dim=8,
        )
        model.compile(keras.optimizers.SGD(0.1), balance=remedy, **options)
    before = [v.numpy() for v in model.trainable_variables]
    log = model.fit(data, epochs=epochs, verbose=0, validation_data=held).history
    now = [v.numpy() for v in model.trainable_variables]
    moved = min(float(np.abs(a - b).max()) for a, b in zip(before, now, strict=True))
    return {**{v.path: v.numpy() for v in model.variables}, **log}, moved


def balance(*args, **options):
    return mk.training.balance(*args, **options)


# Remedy, rows of a batch, rows, epochs, options on one device, options on two.
CASES = {
    "ogm_ge, clipped, a replica without rows": (
        balance("ogm_ge", alpha=0.8),
        12,
        37,
        2,
        {"clip_norm": 0.5},
        {},
    ),
    "ogm_ge, xla, micro-batches": (
        balance("ogm_ge", alpha=0.8),
        12,
        36,
        2,
        {},
        {"jit": True, "accumulate_steps": 3},
    ),
    "blending, uneven": (balance("blending", every=1), 19, 38, 3, {}, {}),
}


def compared(remedy, size, rows, epochs, one, two):
    one, two = {"jit": False, **one}, {"jit": False, **one, **two}
    (first, moved), (second, _) = (
        run(strategy, remedy, size, rows, epochs, **options)
        for strategy, options in ((None, one), (mirrored, two))
    )
    assert first.keys() == second.keys()
    apart = {k: float(np.abs(np.subtract(first[k], second[k])).max()) for k in first}
    worst = max(apart, key=apart.get)
    return {"apart": apart[worst], "worst": worst, "moved": moved, "names": sorted(first)}


out = {}
for name, case in CASES.items():
    out[name] = compared(*case)
    print(name, out[name], flush=True)
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
