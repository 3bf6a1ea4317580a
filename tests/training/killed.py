"""Trains with everything that has a state, and may be killed; run as a file, on two replicas.

python killed.py RUN_DIR [STEP SIGNAL]: sends itself the signal after the global step STEP; when it
ends by itself it writes RUN_DIR/weights.npz.
"""

import os
import signal
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras  # noqa: E402
import numpy as np  # noqa: E402

import mmkeras as mk  # noqa: E402
from mmkeras.data import scenes  # noqa: E402

EPOCHS, BATCH = 4, 8


class Kill(keras.callbacks.Callback):
    def __init__(self, step, number):
        super().__init__()
        self.step, self.number = step, number

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == self.step:
            os.kill(os.getpid(), self.number)


def train(run_dir, extra=(), epochs=EPOCHS, strategy=None, jit=False, save_steps=3):
    """Returns the model and the history of a run with dropout, EMA, a schedule and callbacks."""
    keras.backend.clear_session()
    mk.training.seed(3, deterministic=True)
    rows = scenes.questions(14, seed=1, size=32)
    specs = {
        "image": mk.Image(size=32, augment={"translate": {"fraction": 0.2}}),
        "question": mk.Text(length=9),
    }
    held = scenes.questions(4, seed=2, size=32)
    data = mk.data.table(rows, specs, "answer", valid=held, seed=5)
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 60)
    with (strategy or mk.training.strategy()).scope():
        model = mk.assemble(
            data.modalities,
            {"image": {"name": "cnn", "filters": (8,)}},
            {"name": "late_transformer", "num_layers": 1},
            {"answer": mk.heads.Classifier(data.classes)},
            hidden_dim=16,
            dropout=0.3,
        )
        model.compile(keras.optimizers.AdamW(schedule, use_ema=True), jit=jit)
    callbacks = mk.training.callbacks(run_dir, histogram_freq=0, save_steps=save_steps)
    stop = keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True)
    history = model.fit(
        data.train(BATCH),
        validation_data=data.valid(4),
        epochs=epochs,
        verbose=0,
        callbacks=[*callbacks, stop, *extra],
    )
    return model, history


def state(model):
    """Every array that training has made."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i}/{v.path}": np.asarray(v.numpy()) for i, v in enumerate(variables)}


if __name__ == "__main__":
    folder = sys.argv[1]
    two = mk.training.strategy("cpu:2")
    step, number = (int(sys.argv[2]), getattr(signal, sys.argv[3])) if sys.argv[2:] else (0, 0)
    trained, _ = train(folder, [Kill(step, number)], strategy=two)
    np.savez(f"{folder}/weights.npz", **state(trained))
