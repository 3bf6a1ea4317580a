"""Trains the same model on 1 device and on 2 logical replicas, with and without XLA; run as a file.

python replicas.py OUT.json: writes, per case, the largest weight difference from the cases before
it, loss, accuracy and validation, and the number of XLA modules compiled from the gradient.
"""

import contextlib
import glob
import json
import os
import sys
import tempfile

DUMP = tempfile.mkdtemp()
os.environ["XLA_FLAGS"] = f"--xla_dump_to={DUMP} --xla_dump_hlo_as_text"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
import numpy as np  # noqa: E402

import mmkeras as mk  # noqa: E402
from mmkeras.data import scenes  # noqa: E402

mirrored = mk.training.strategy("cpu:2")

rows = scenes.questions(71, seed=3, size=32)
held = scenes.questions(11, seed=4, size=32)
for part in (rows, held):
    made = scenes.generate(max(part["scene"]) + 1, seed=3, size=32)
    part["sound"] = [made[i].sound if i % 4 else None for i in part["scene"]]
SPECS = {
    "image": mk.Image(size=32),
    "question": mk.Text(length=9),
    "sound": mk.Audio(rate_hz=8000, seconds=0.4, num_bands=12, hop_seconds=0.02),
}
ENCODERS = {
    "image": {"name": "cnn", "filters": (8,)},
    "question": {"name": "lstm", "embedding_dim": 8, "hidden_dim": 8},
    "sound": {"name": "cnn", "filters": (8,)},
}


def xla_modules():
    return len(glob.glob(f"{DUMP}/*_gradient*after_optimizations.txt"))


def run(strategy, jit, optimizer, policy="float32", clip_norm=None):
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    mk.training.precision(policy)
    data = mk.data.table(rows, SPECS, "answer", valid=held, seed=5)
    before = xla_modules()
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = mk.assemble(
            data.modalities,
            ENCODERS,
            {"name": "late_transformer", "num_layers": 1},
            {"answer": mk.heads.Classifier(data.classes)},
            hidden_dim=16,
        )
        model.compile(optimizer(), jit=jit, clip_norm=clip_norm)
    log = model.fit(data.train(14), validation_data=data.valid(14), epochs=1, verbose=0).history
    return {
        "weights": {v.path: v.numpy() for v in model.weights},
        "steps": int(model.optimizer.iterations.numpy()),
        "loss": log["loss"],
        "val_loss": log["val_loss"],
        "accuracy": log["accuracy"],
        "val_accuracy": log["val_accuracy"],
        "modules": xla_modules() - before,
    }


def adamw():
    return keras.optimizers.AdamW(1e-3)


def scaled_adamw():
    return keras.optimizers.LossScaleOptimizer(adamw(), initial_scale=1024.0)


def sgd():
    return keras.optimizers.SGD(0.05, momentum=0.9)


CASES = {
    "single": (None, False, adamw),
    "single_xla": (None, True, adamw),
    "mirrored": (mirrored, False, adamw),
    "mirrored_xla": (mirrored, True, adamw),
}
# Global-norm clipping at work: the norm is far above 0.5 in the first steps.
SGD_CASES = {
    "sgd_single": (None, False, sgd, "float32", 0.5),
    "sgd_mirrored_xla": (mirrored, True, sgd, "float32", 0.5),
}
HALF_CASES = {
    "half_single": (None, False, scaled_adamw, "mixed_float16"),
    "half_mirrored": (mirrored, False, scaled_adamw, "mixed_float16"),
}

result = {}
for cases in (CASES, SGD_CASES, HALF_CASES):
    kept = {}
    for name, case in cases.items():
        done = run(*case)
        weights = done.pop("weights")
        kept[name] = weights
        done["difference"] = {
            other: max(float(np.abs(w - kept[other][path]).max()) for path, w in weights.items())
            for other in cases
            if other in kept
        }
        done["finite"] = all(bool(np.isfinite(w).all()) for w in weights.values())
        result[name] = done
        print(name, done, flush=True)
with open(sys.argv[1], "w") as file:
    json.dump(result, file)
