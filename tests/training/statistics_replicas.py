"""Losses of batch statistics on 1 device and on 2 replicas: python statistics_replicas.py OUT.json.

Writes, per case, the largest difference of weights and logged figures, relative to 1 or the value.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk
from mmkeras.objectives import FeatureTargets, JointEmbedding, SoftTargets, Translation

mirrored = mk.training.strategy("cpu:2")

SPECS = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
ROWS = 40
rng = np.random.default_rng(0)
x = {}
for name in SPECS:
    x[name] = rng.standard_normal((ROWS, 3)).astype("float32")
    x[f"{name}_mask"] = rng.random(ROWS) < 0.8
y = {
    "kind": rng.integers(0, 2, ROWS),
    "taught": rng.standard_normal((ROWS, 2)).astype("f4"),
    "features": rng.standard_normal((ROWS, 5)).astype("f4"),
}
weights = {"kind": np.ones(ROWS, "f4"), "stats": rng.integers(0, 3, ROWS).astype("f4")}


def run(loss, strategy=None, size=20, steps=1, jit=False, extras=False):
    """Weights and figures of two epochs."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    heads = {"kind": mk.heads.Classifier(("no", "yes")), "stats": JointEmbedding(4, loss)}
    names = ["kind"]
    if extras:
        heads |= {
            "way": Translation("a", "b"),
            "taught": SoftTargets("kind"),
            "features": FeatureTargets("a", 5),
        }
        names += ["taught", "features"]
    own = {name: weights.get(name, weights["kind"]) for name in heads}
    rows = (x, {name: y[name] for name in names}, own)
    rows = tf.data.Dataset.from_tensor_slices(rows).batch(size)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(SPECS, None, "sum", heads, hidden_dim=8)
        model.compile(keras.optimizers.SGD(1e-3), jit=jit, accumulate_steps=steps)
    history = model.fit(rows, epochs=2, verbose=0, validation_data=rows).history
    return [v.numpy() for v in model.trainable_variables] + [
        np.array(history[name]) for name in sorted(history)
    ]


CASES = {
    "vicreg, uneven batches, all objectives": ("vicreg", {"size": 14, "extras": True}, {}),
    "barlow_twins, xla": ("barlow_twins", {}, {"jit": True}),
    "cca, micro-batches": ("cca", {}, {"steps": 5}),
}

if __name__ == "__main__":
    out = {}
    for case, (loss, both, other) in CASES.items():
        one, two = run(loss, **both), run(loss, mirrored, **both, **other)
        apart = [
            np.max(np.abs(p - q) / np.maximum(1, np.abs(p))) for p, q in zip(one, two, strict=True)
        ]
        out[case] = float(np.max(apart))  # of numpy, which passes NaN on
        print(case, out[case], flush=True)
    with open(sys.argv[1], "w") as file:
        json.dump(out, file)
