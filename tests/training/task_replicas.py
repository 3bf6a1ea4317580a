"""Weighed tasks with missing labels on 1 device and on 2 replicas; run as a file.

python task_replicas.py OUT.json: writes, per case, the largest relative difference of weights and
logs between one device and two logical replicas, and how far the weights moved.
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
ROWS = 40
rng = np.random.default_rng(0)
x = {
    "a": rng.standard_normal((ROWS, 3)).astype("float32"),
    "a_mask": rng.random(ROWS) < 0.7,
    "b": rng.standard_normal((ROWS, 2)).astype("float32"),
    "b_mask": rng.random(ROWS) < 0.7,
}
y = {
    "kind": rng.integers(0, 3, ROWS).astype("int32"),
    "kind_mask": rng.random(ROWS) < 0.6,
    "size": rng.standard_normal(ROWS).astype("float32"),
    "size_mask": rng.random(ROWS) < 0.5,
    "tags": rng.integers(0, 2, (ROWS, 4)).astype("float32"),
}
y["size_mask"][:12] = False  # a batch of 12 in which the task has no label at all
weights = {"kind": rng.uniform(0.5, 1.5, ROWS).astype("float32")}
weights |= {"size": np.ones(ROWS, "float32"), "tags": np.ones(ROWS, "float32")}


def run(strategy, method, size, rows, epochs=2, weighted=False, **options):
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    parts = (x, y, weights) if weighted else (x, y)
    parts = tf.nest.map_structure(lambda part: part[:rows], parts)
    data = tf.data.Dataset.from_tensor_slices(parts).batch(size)
    heads = {
        "kind": mk.heads.Classifier(("p", "q", "r")),
        "size": mk.heads.Regressor(),
        "tags": mk.heads.MultiLabel(("s", "t", "u", "v")),
    }
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            SPECS, dict.fromkeys(SPECS, ENCODER), "concatenation", heads, hidden_dim=8
        )
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5), tasks=method, **options)
    before = [v.numpy() for v in model.trainable_variables]
    log = model.fit(data, epochs=epochs, verbose=0, validation_data=data).history
    now = [v.numpy() for v in model.trainable_variables]
    moved = min(float(np.abs(a - b).max()) for a, b in zip(before, now, strict=True))
    return {**{v.path: v.numpy() for v in model.variables}, **log}, moved


# Method, rows of a batch, rows, options on one device, options on two.
CASES = {
    "uncertainty, xla, micro-batches": (
        "uncertainty",
        12,
        36,
        {"clip_norm": 1.0},
        {"jit": True, "accumulate_steps": 3},
    ),
    "gradnorm, sample weights, uneven": ("gradnorm", 19, 38, {"weighted": True}, {}),
    "dwa": ("dwa", 12, 36, {"epochs": 3}, {}),
    "pcgrad, a replica without rows": ("pcgrad", 12, 37, {}, {}),
}


def compared(method, size, rows, one, two):
    one, two = {"jit": False, **one}, {"jit": False, **one, **two}
    (first, moved), (second, _) = (
        run(strategy, method, size, rows, **options)
        for strategy, options in ((None, one), (mirrored, two))
    )
    assert first.keys() == second.keys()
    apart = {
        k: float(np.max(np.abs(np.subtract(first[k], second[k])) / np.maximum(1, np.abs(first[k]))))
        for k in first
    }
    worst = max(apart, key=lambda name: np.nan_to_num(apart[name], nan=np.inf))
    return {"apart": apart[worst], "worst": worst, "moved": moved, "names": sorted(first)}


if __name__ == "__main__":
    out = {}
    for name in sys.argv[2:] or CASES:
        out[name] = compared(*CASES[name])
        print(name, {k: v for k, v in out[name].items() if k != "names"}, flush=True)
    with open(sys.argv[1], "w") as file:
        json.dump(out, file)
