"""The guard against NaN and infinity: names step, head and rows, and keeps the batch."""

import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkeras.core import checks


class NonFiniteGuard(keras.callbacks.Callback):
    """Stops or skips a training step whose loss or gradient is not finite.

    Found by `mmkeras.Model.fit` among its callbacks. The step changes no weight, no optimizer
    state and no metric. Its whole global batch is saved as `FOLDER/step-00000012.npz` with the
    entries `x/NAME`, `y/NAME`, `prediction/NAME` and `rows/NAME` (the rows, counted from 0,
    whose prediction or truth is not finite). Under loss scaling an infinite gradient is normal
    (the scale is lowered and the step skipped by the optimizer) and only the loss is looked at.

    Args:
        folder: for the saved batches; made when needed.
        action: "stop" raises FloatingPointError; "skip" warns and goes on.

    Attributes:
        skipped: number of steps that were left out.
    """

    def __init__(self, folder: str | os.PathLike, action: str = "stop") -> None:
        super().__init__()
        self.folder = Path(folder)
        self.action = checks.one_of("action", action, ("stop", "skip"))
        self.skipped = 0
        self.message: str | None = None

    def report(self, step: int, loss: float, batch: dict, gradients: dict[str, bool]) -> None:
        """Writes the batch and the message that the end of the step gives.

        Args:
            step: global step, from 0.
            loss: of the batch.
            batch: "x/...", "y/..." and "prediction/..." -> array.
            gradients: path of a weight -> whether its gradient is finite.
        """
        rows = {}
        for name, values in batch.items():
            if values.dtype.kind == "f" and values.ndim:
                bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
                if bad.any():
                    rows[name] = np.flatnonzero(bad)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{step:08d}.npz"
        made = self.folder / f".{path.name}"
        with open(made, "wb") as file:
            np.savez(file, **batch, **{f"rows/{name}": found for name, found in rows.items()})
        made.rename(path)
        broken = [name for name, finite in gradients.items() if not finite]
        where = "; ".join(f"{name} in rows {_short(found)}" for name, found in rows.items())
        self.message = (
            f"Step {step} is not finite (loss {loss:.6g}). Not finite: "
            f"{where or 'no input, truth or prediction'}; gradients of {_short(broken) or 'no'} "
            f"weights. The step was left out and its batch saved as {path}. Look at these rows, "
            "lower the learning rate, or clip with compile(clip_norm=...)."
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises or warns when the step was not finite."""
        if self.message is None:
            return
        message, self.message = self.message, None
        if self.action == "stop":
            raise FloatingPointError(message)
        self.skipped += 1
        warnings.warn(message, stacklevel=2)


def _short(found: Any, limit: int = 8) -> str:
    words = [str(item) for item in found[:limit]]
    return ", ".join(words) + (f" and {len(found) - limit} more" if len(found) > limit else "")
