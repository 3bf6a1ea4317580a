"""Trains as one of several workers, or alone without TF_CONFIG; run as a file.

python pair.py OUT: writes logs, evaluation, predictions and weights with and without XLA, and of a
run with dropout and all callbacks in OUT/whole, to OUT/<rank or alone>.npz.
python pair.py OUT joint: loss and gradients of `joint_gradients.py`, to OUT/joint-<rank>.npz.
python pair.py OUT killed: the last of these runs alone, in OUT/killed, whose worker 1 kills itself
in the middle of the second epoch, once.
"""

import contextlib
import json
import os
import signal
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


def table(count, seed):
    rows = {
        name: values[:count] for name, values in scenes.questions(30, seed=seed, size=32).items()
    }
    rows["numbers"] = [[float(scene % 5), 1.0] for scene in rows["scene"]]
    return rows


augment = {"translate": {"fraction": 0.2}, "color_jitter": {}, "cutout": {"fraction": 0.3}}
specs = {"image": mk.Image(size=32, augment=augment), "numbers": mk.Vector(size=2)}


def adapted(*names):
    chosen = {name: specs[name] for name in names}
    return mk.data.table(table(71, 3), chosen, "answer", valid=table(25, 4), seed=5)


def model(data, jit, **options):
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    with contextlib.nullcontext() if alone else strategy.scope():
        made = mk.assemble(
            data.modalities,
            {"image": {"name": "cnn", "filters": (8,)}} if "image" in data.modalities else None,
            "concatenation",
            {"answer": mk.heads.Classifier(data.classes)},
            hidden_dim=16,
            **options,
        )
        made.compile(keras.optimizers.AdamW(1e-3), jit=jit, clip_norm=0.5)
    return made


class Kill(keras.callbacks.Callback):
    """Kills worker 1 once, after 8 steps; writes down which steps were begun."""

    def on_train_batch_begin(self, batch, logs=None):
        with (out / f"begun-{rank}").open("a") as file:
            file.write(f"{int(self.model.optimizer.iterations.numpy())}\n")

    def on_train_batch_end(self, batch, logs=None):
        mark = out / "killed.mark"
        if rank == "1" and int(self.model.optimizer.iterations.numpy()) == 8 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def whole_run(name, *callbacks):
    """Returns weights after a run with dropout, checkpoints and logs."""
    mk.training.seed(7, deterministic=True)  # not before: XLA has no deterministic max pooling
    data = adapted("numbers")
    made = model(data, False, dropout=0.2)
    callbacks = [*mk.training.callbacks(out / name, data=data, save_steps=3), *callbacks]
    made.fit(
        data.train(14), validation_data=data.valid(9), epochs=3, verbose=0, callbacks=callbacks
    )
    return {f"{name}/{i}": weight.numpy() for i, weight in enumerate(made.weights)}


if sys.argv[2:] == ["killed"]:
    np.savez(out / f"killed-{rank}.npz", **whole_run("killed", Kill()))
    sys.exit()
if sys.argv[2:] == ["joint"]:
    from joint_gradients import measured

    arrays = measured(None if alone else strategy, 0 if alone else int(rank))
    np.savez(out / f"joint-{rank}.npz", **arrays)
    sys.exit()
result, data = {}, adapted("image", "numbers")
for jit in (False, True):
    made = model(data, jit)
    # 25 rows in batches of 9, 8 and 8: two workers get 4 and 5, 4 and 4.
    log = made.fit(data.train(14), validation_data=data.valid(9), epochs=4, verbose=0).history
    result |= {f"log/{jit}/{name}": values for name, values in log.items()}
    result |= {f"weights/{jit}/{i}": weight.numpy() for i, weight in enumerate(made.weights)}
result["steps"] = made.optimizer.iterations.numpy()
for name, value in made.evaluate(data.valid(9), return_dict=True, verbose=0).items():
    result[f"evaluate/{name}"] = value
result["predict"] = made.predict(data.valid(9), verbose=0)["answer"]
result |= {} if alone else whole_run("whole")
np.savez(out / f"{rank}.npz", **result)
