"""Rates per part, layer decay, EMA, averaging and remat on 1 device and on 2.

python part_replicas.py OUT.json: writes, per case, the largest weight difference between one
device and two logical replicas.
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


def run(strategy, jit, optimizer, callbacks=()):
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    words = {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0, "remat": True}
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            SPECS,
            {"words": {"name": "transformer", **words}},
            "concatenation",
            {"label": mk.heads.Classifier(("a", "b"))},
            hidden_dim=8,
        )
        model.compile(optimizer(), jit=jit)
    model.fit(rows, epochs=2, verbose=0, callbacks=[make() for make in callbacks])
    return {v.path: v.numpy() for v in model.trainable_variables}


def adamw(**options):
    return mk.training.optimizer(
        "adamw", 1e-3, rates={"numbers_*": 0.1}, layer_decay=0.5, weight_decay=0.1, **options
    )


def scaled():
    return keras.optimizers.LossScaleOptimizer(adamw(ema=0.9), initial_scale=1024.0)


def sgd():
    return mk.training.optimizer("sgd", mk.training.schedule("cosine", 0.1, steps=20))


profile = mk.training.Profile(peak_flops=1.0)
CASES = {
    "rates": (False, adamw),
    "loss_scale_ema": (False, scaled),
    "average": (False, sgd, [lambda: mk.training.AverageWeights(1), lambda: profile]),
}


def difference(a, b):
    return float(max(np.abs(a[path] - b[path]).max() for path in a))


out = {name: difference(run(None, *case), run(mirrored, *case)) for name, case in CASES.items()}
out["rows"] = int(profile.rows)
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
