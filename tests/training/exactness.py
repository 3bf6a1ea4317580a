"""One device against two replicas in every way of training; run as a file.

python exactness.py OUT.json: per case the largest weight difference after 20 steps, and the logs.
"""

import contextlib
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import mmkeras as mk  # noqa: E402

mirrored = mk.training.strategy("cpu:2")

RNG = np.random.default_rng(0)
ROWS, WORDS = 80, 30
X = {
    "words": RNG.integers(0, 7, (ROWS, 5)).astype("int32"),
    "words_mask": RNG.random((ROWS, 5)) < 0.7,
    "numbers": RNG.normal(size=(ROWS, 3)).astype("float32"),
    "numbers_mask": RNG.random(ROWS) < 0.8,
}
Y = {
    "label": RNG.integers(0, 3, ROWS).astype("int32"),
    "tags": RNG.integers(0, 2, (ROWS, 4)).astype("float32"),
    "size": RNG.normal(size=ROWS).astype("float32"),
}
WEIGHTS = {name: RNG.random(ROWS).astype("float32") for name in Y}


def build(norm):
    """Repeated tokens, a mask, three heads: what the step must get right, and little else."""
    inputs = {
        "words": keras.Input((5,), dtype="int32", name="words"),
        "words_mask": keras.Input((5,), dtype="bool", name="words_mask"),
        "numbers": keras.Input((3,), name="numbers"),
        "numbers_mask": keras.Input((), dtype="bool", name="numbers_mask"),
    }
    tokens = keras.layers.Embedding(WORDS, 6, name="table")(inputs["words"])
    both = [
        keras.layers.GlobalAveragePooling1D(name="mean")(
            mk.layers.ZeroMasked(name="cut")(tokens, inputs["words_mask"])
        ),
        keras.layers.Dense(6, name="numbers_dense")(inputs["numbers"]),
    ]
    hidden = keras.layers.Dense(8, "tanh", name="hidden")(keras.layers.Concatenate()(both))
    hidden = norm()(hidden)
    heads = {
        "label": mk.heads.Classifier(("a", "b", "c"), name="label"),
        "tags": mk.heads.MultiLabel(("p", "q", "r", "s"), name="tags"),
        "size": mk.heads.Regressor(name="size"),
    }
    return mk.Model(inputs, {name: head({"pooled": hidden}) for name, head in heads.items()})


def data(size, weights=False, rows=ROWS):
    parts = (X, Y, WEIGHTS) if weights else (X, Y)
    parts = tf.nest.map_structure(lambda a: a[:rows], parts)
    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


def run(
    strategy,
    optimizer,
    *,
    size=16,
    weights=False,
    norm=lambda: keras.layers.LayerNormalization(),
    policy="float32",
    rows=ROWS,
    **kwargs,
):
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    mk.training.precision(policy)
    options = {k: kwargs.pop(k) for k in ("class_weight", "callbacks") if k in kwargs}
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = build(norm)
        model.compile(optimizer(), **kwargs)
    train = data(size, weights, rows).repeat()
    before = [v.numpy() for v in model.trainable_weights]
    steps = -(-rows // size)
    log = model.fit(
        train,
        epochs=20 // steps,
        steps_per_epoch=steps,
        validation_data=data(size, weights, rows),
        verbose=0,
        **options,
    ).history
    predicted = model.predict(data(size, rows=rows), verbose=0)
    values = {f"{i}/{v.path}": v.numpy() for i, v in enumerate(model.weights)}
    values |= {f"predicted/{name}": value for name, value in predicted.items()}
    moved = [
        np.abs(v.numpy() - b).max() for v, b in zip(model.trainable_weights, before, strict=True)
    ]
    return {
        "values": values,
        "moved": float(min(moved)),
        "steps": int(model.optimizer.iterations.numpy()),
        "log": {name: log[name] for name in sorted(log)},
    }


def adamw(**kwargs):
    return lambda: keras.optimizers.AdamW(1e-2, **kwargs)


def scaled():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.AdamW(1e-2), initial_scale=1024.0)


def warmed():
    return keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.0, 20, warmup_target=0.1, warmup_steps=5),
        momentum=0.9,
    )


CASES = {
    "sample_weights, schedule": {"jit": False, "weights": True, "optimizer": warmed},
    "class_weights, clip_norm": {
        "jit": False,
        "class_weight": {"label": {0: 3.0, 2: 0.5}},
        "clip_norm": 0.3,
    },
    "accumulate, ema, xla": {
        "jit": True,
        "accumulate_steps": 4,
        "optimizer": adamw(use_ema=True, ema_momentum=0.9),
    },
    "uneven batches": {"jit": False, "size": 17, "rows": 77},
    "a last batch of one row, xla": {"jit": True, "size": 19, "rows": 77},
    "guard, clip_norm, xla": {"jit": True, "clip_norm": 0.3, "guard": True},
    "synchronized batch statistics": {
        "jit": "auto",
        "norm": lambda: keras.layers.BatchNormalization(synchronized=True),
    },
    "bfloat16": {"jit": False, "policy": "mixed_bfloat16", "optimizer": warmed},
    "float16": {"jit": False, "policy": "mixed_float16", "optimizer": scaled},
}


def compared(name, case):
    case = dict(case)
    optimizer = case.pop("optimizer", adamw())
    if case.pop("guard", False):
        case["callbacks"] = [mk.training.NonFiniteGuard("unused")]
    one, two = run(None, optimizer, **case), run(mirrored, optimizer, **case)
    apart = {
        path: float(np.abs(np.float64(value) - two["values"][path]).max())
        for path, value in one["values"].items()
    }
    logs = {
        key: float(np.abs(np.subtract(values, two["log"][key])).max())
        for key, values in one["log"].items()
    }
    return {
        "steps": [one["steps"], two["steps"]],
        "weights": max(apart.values()),
        "logs": max(logs.values()),
        "worst": [max(apart, key=apart.get), max(logs, key=logs.get)],
        "moved": one["moved"],
    }


def dropout():
    """Whether the replicas drop different units, and the same ones in a second run."""
    seen = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        with mirrored.scope():
            inputs = keras.Input((50,))
            dropped = keras.layers.Dropout(0.5)(inputs)
            model = mk.Model(inputs, keras.layers.Dense(50, kernel_initializer="identity")(dropped))
            model.compile(keras.optimizers.SGD(0.0), "mse", jit=False)
        model.fit(np.ones((4, 50)), np.ones((4, 50)), verbose=0)
        parts = mirrored.run(lambda m=model: m(tf.ones((2, 50)), training=True))
        seen.append([np.asarray(p) for p in mirrored.experimental_local_results(parts)])
    (a, b), again = seen
    return {
        "differ": bool((a != b).any()),
        "repeat": bool(np.array_equal(seen[0], again)),
        "halves": [float((p == 0).mean()) for p in (a, b)],
    }


if __name__ == "__main__":
    result = {}
    for name, case in CASES.items():
        result[name] = compared(name, case)
        print(name, result[name], flush=True)
    result["dropout"] = dropout()
    print(result["dropout"])
    with open(sys.argv[1], "w") as file:
        json.dump(result, file)
