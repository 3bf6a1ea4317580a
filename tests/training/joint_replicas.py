"""A loss of the global batch on 1 device and on 2 replicas: python joint_replicas.py OUT.json.

Writes, per case, the largest difference of weights and logged figures from one device without
XLA, tiles or micro-batches.
"""

import contextlib
import json
import sys

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk

mirrored = mk.training.strategy("cpu:2")

SPECS = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b", "c")}
ROWS = 40
rng = np.random.default_rng(0)
x = {}
for name in SPECS:
    x[name] = rng.standard_normal((ROWS, 3)).astype("float32")
    x[f"{name}_mask"] = rng.random(ROWS) < 0.8
ALONE = {}
BESIDE = {"match": np.arange(ROWS) // 2, "kind": rng.integers(0, 2, ROWS)}
weights = {"kind": np.ones(ROWS, "float32"), "match": rng.uniform(0.5, 1.5, ROWS).astype("f4")}


def run(y, strategy=None, loss="info_nce", jit=False, size=20, steps=1, tile=None):
    """Weights and figures of an epoch."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    rows = (x, y, weights) if y else (x, y)
    rows = tf.data.Dataset.from_tensor_slices(rows).batch(size)
    made = mk.objectives.Contrastive(8, loss, tile=tile) if loss != "queue" else None
    heads = {"match": made or mk.objectives.MomentumContrastive(8, 23, momentum=0.7, soft=0.4)}
    if "kind" in y:
        heads["kind"] = mk.heads.Classifier(("no", "yes"))
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(SPECS, None, "sum", heads, hidden_dim=8)
        model.compile(keras.optimizers.SGD(0.1), jit=jit, accumulate_steps=steps, clip_norm=5.0)
    history = model.fit(rows, epochs=1, verbose=0, validation_data=rows).history
    assert {"loss", "match_loss", "val_match_loss"} <= set(history)
    kept = [v for v in model.variables if v.trainable or "momentum" in v.path]
    return [v.numpy() for v in kept] + [np.array(history[name]) for name in sorted(history)]


def masked(strategy=None, train=False):
    """Figures of an evaluation of masked words and spans, after an epoch where all is hidden."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    words = ("[PAD]", "[UNK]", "[MASK]", *"abcdefgh")
    specs = {
        "text": mk.Text(length=6, mask_token=True, vocabulary=words),
        "track": mk.Series(steps=6, channels=2, normalize=False),
    }
    sizes = {"num_layers": 1, "hidden_dim": 8, "num_heads": 2, "dropout": 0.0}
    encoders = {"text": {"name": "transformer", **sizes}, "track": {"name": "tcn", "filters": (4,)}}
    hidden = {"rate": 1.0, "cross": True} if train else {"rate": 0.5}
    sizes = {"frames": 2, "hidden_dim": 8, "num_heads": 2}
    heads = {"spans": mk.objectives.MaskedFrames("track", **sizes, **hidden)}
    if not train:  # in training other words are drawn on two replicas
        heads["words"] = mk.objectives.MaskedText("text", rate=0.4)
    draw = np.random.default_rng(1)
    rows = {
        "text": draw.integers(3, 11, (ROWS, 6)).astype("int32"),
        "text_mask": np.arange(6) < draw.integers(1, 7, (ROWS, 1)),
        "track": draw.standard_normal((ROWS, 6, 2)).astype("float32"),
        "track_mask": np.arange(6) < draw.integers(1, 7, (ROWS, 1)),
    }
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(specs, encoders, "late_transformer", heads, hidden_dim=8)
        model.compile(keras.optimizers.SGD(0.1), jit=False)
    rows = tf.data.Dataset.from_tensor_slices((rows, {})).batch(14)
    losses = model.fit(rows, verbose=0).history["loss"] if train else []
    return np.array([*losses, *np.atleast_1d(model.evaluate(rows, verbose=0))])


CASES = {
    "alone": (ALONE, {}, {"strategy": mirrored, "jit": True}),
    "siglip, tiles, micro-batches": (
        BESIDE,
        {"loss": "siglip"},
        {"strategy": mirrored, "tile": 7, "steps": 5},
    ),
    "uneven batches": (BESIDE, {"size": 14}, {"strategy": mirrored}),
    "hard_nce, tiles": (BESIDE, {"loss": "hard_nce"}, {"strategy": mirrored, "tile": 7}),
    "triplet, uneven batches": (
        BESIDE,
        {"loss": "triplet", "size": 14},
        {"strategy": mirrored},
    ),
    "queue, uneven batches": (ALONE, {"loss": "queue", "size": 14}, {"strategy": mirrored}),
    "queue, micro-batches, xla": (
        ALONE,
        {"loss": "queue"},
        {"strategy": mirrored, "steps": 5, "jit": True},
    ),
    "micro-batches on one device": (ALONE, {}, {"steps": 4, "jit": True}),
}
whole = {}
out = {}
for case, (y, both, other) in CASES.items():
    key = (len(y), *both.items())
    whole[key] = whole.get(key) or run(y, **both)
    pairs = zip(whole[key], run(y, **both, **other), strict=True)
    out[case] = float(max(np.abs(p - q).max() for p, q in pairs))
for case, train in (("masked, evaluation", False), ("masked, training", True)):
    out[case] = float(np.abs(masked(train=train) - masked(mirrored, train)).max())
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
