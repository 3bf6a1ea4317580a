"""Rates per part, layer decay, EMA, averaging, remat and bfloat16 parts on 1 device and on 2.

python part_replicas.py OUT.json: writes, per case, the largest weight difference between one
device and two logical replicas, and what else tests/training/test_part_replicas.py reads.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk

mirrored = mk.training.strategy("cpu:2")

SPECS = {
    "words": mk.Text(length=5, vocabulary=("[PAD]", "[UNK]", *"abc")),
    "numbers": mk.Vector(size=3, normalize=False),
}
rng = np.random.default_rng(0)
x = {
    "words": rng.integers(1, 5, (40, 5)).astype("int32"),
    "words_mask": rng.random((40, 5)) < 0.8,
    "numbers": rng.normal(size=(40, 3)).astype("float32"),
    "numbers_mask": rng.random(40) < 0.8,
}
rows = tf.data.Dataset.from_tensor_slices((x, {"label": np.arange(40) % 2})).batch(4)


def run(strategy, jit, optimizer, remat=False, callbacks=(), precision=None, epochs=1):
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    words = {"name": "transformer", "hidden_dim": 8, "num_layers": 1, "num_heads": 2}
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            SPECS,
            {"words": {**words, "dropout": 0.0, "remat": remat}},
            "concatenation",
            {"label": mk.heads.Classifier(("a", "b"))},
            hidden_dim=8,
            precision=precision,
        )
        model.compile(optimizer(), jit=jit)
    model.fit(rows, epochs=epochs, verbose=0, callbacks=[make() for make in callbacks])
    return {v.path: v.numpy() for v in model.trainable_variables}


def rated():
    return mk.training.optimizer(
        "adamw", 1e-3, rates={"numbers_*": 0.1}, layer_decay=0.5, weight_decay=0.1
    )


def averaged():
    rate = mk.training.schedule("cosine", 1e-3, steps=10, warmup_steps=3)
    return mk.training.optimizer("adamw", rate, ema=0.9)


def scaled():
    return keras.optimizers.LossScaleOptimizer(rated(), initial_scale=1024.0)


CASES = {
    "rates": (True, rated),
    "ema": (False, averaged),
    "loss_scale": (False, scaled),
    "average": (False, rated, False, [lambda: mk.training.AverageWeights(1)], None, 2),
    "bfloat16_part": (False, rated, False, (), {"numbers": "mixed_bfloat16"}),
}


def difference(a, b):
    return float(max(np.abs(a[path] - b[path]).max() for path in a))


out = {}
for name, case in CASES.items():
    one, two = run(None, *case), run(mirrored, *case)
    out[name] = {"one_two": difference(one, two), "finite": bool(np.isfinite(difference(one, two)))}
    if name == "rates":
        kept = run(mirrored, True, rated, True)
        out["remat"] = {"plain_remat": difference(two, kept)}
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
