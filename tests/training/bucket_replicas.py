"""Training on buckets on 1 device and on 2: python bucket_replicas.py OUT.json."""

import contextlib
import json
import sys

import keras
import numpy as np

import mmkeras as mk
from mmkeras.encoders import base

mirrored = mk.training.strategy("cpu:2")
rng = np.random.default_rng(0)
texts = [" ".join(rng.choice(list("abcdefg"), 1 + i % 12)) for i in range(40)]
labels = ["x" if i % 3 else "y" for i in range(40)]
data = mk.data.table({"text": texts, "label": labels}, {"text": mk.Text(length=12)}, "label")


def synchronized(name, modality):
    inputs, ids, mask = base.begin(name, modality)
    x = keras.layers.Embedding(9, 4)(ids)
    return base.end(name, "bn", inputs, keras.layers.BatchNormalization(synchronized=True)(x), mask)


def run(strategy, jit, encoder):
    """Loss and weights after two epochs."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            data.modalities,
            {"text": encoder},
            "concatenation",
            {"label": mk.heads.Classifier(data.classes)},
            hidden_dim=8,
        )
        model.compile("sgd", jit=jit)
    train = data.train(8, buckets={"text": (4, 8)})
    history = model.fit(train, epochs=2, verbose=0).history
    return {"loss": np.array(history["loss"]), **{v.path: v.numpy() for v in model.weights}}


small = {"name": "transformer", "hidden_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
CASES = {"plain": (False, "lstm"), "xla": (True, small)}
out = {}
for name, case in CASES.items():
    one, two = run(None, *case), run(mirrored, *case)
    out[name] = float(max(np.abs(one[key] - two[key]).max() for key in one))
try:
    run(mirrored, False, synchronized)
except ValueError as error:
    out["refused"] = str(error)
with open(sys.argv[1], "w") as file:
    json.dump(out, file)
