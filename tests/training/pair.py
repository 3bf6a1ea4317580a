"""Trains as one of several workers, or alone without TF_CONFIG; run as a file.

python pair.py OUT: writes losses, metrics, validation, evaluation, predictions and weights of a
run with and without XLA to OUT/<rank or alone>.npz, and the files of a run to OUT/run.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import mmkeras as mk  # noqa: E402
from mmkeras.data import scenes  # noqa: E402

alone = "TF_CONFIG" not in os.environ
strategy = mk.training.strategy("auto")
out = Path(sys.argv[1])
rank = "alone" if alone else str(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
if not alone:
    assert isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    assert mk.training.is_chief() == (rank == "0")

rows, held = scenes.questions(71, seed=3, size=32), scenes.questions(25, seed=4, size=32)
for part in (rows, held):
    part["numbers"] = [[float(scene % 5), 1.0] for scene in part["scene"]]
specs = {"image": mk.Image(size=32), "numbers": mk.Vector(size=2)}
data = mk.data.table(rows, specs, "answer", valid=held, seed=5)


def made(jit):
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    with strategy.scope() if not alone else contextlib.nullcontext():
        model = mk.assemble(
            data.modalities,
            {"image": {"name": "cnn", "filters": (8,)}},
            "concatenation",
            {"answer": mk.heads.Classifier(data.classes)},
            hidden_dim=16,
        )
        model.compile(keras.optimizers.AdamW(1e-3), jit=jit, clip_norm=0.5)
    return model


result = {}
for jit in (False, True):
    model = made(jit)
    # 25 rows in batches of 9, 8 and 8: two workers get 4 and 5, 4 and 4.
    log = model.fit(data.train(14), validation_data=data.valid(9), epochs=4, verbose=0).history
    result |= {f"{name}/{jit}": values for name, values in log.items()}
    for weight in model.weights:
        result[f"weights/{jit}/{weight.path}"] = weight.numpy()
    print("fit", jit, flush=True)
for name, value in model.evaluate(data.valid(9), return_dict=True, verbose=0).items():
    result[f"evaluate/{name}"] = value
result["predict"] = model.predict(data.valid(9), verbose=0)["answer"]
np.savez(out / f"{rank}.npz", **result)
