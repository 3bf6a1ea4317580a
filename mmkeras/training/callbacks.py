"""The callbacks of a run, and the folder they write to."""

import csv
import os
from pathlib import Path
from typing import Any

import keras

from mmkeras.training import workers
from mmkeras.training.nonfinite import NonFiniteGuard
from mmkeras.training.profiling import Profile
from mmkeras.training.resume import Resume
from mmkeras.training.samples import Samples

LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "wer", "cer")


class _LearningRate(keras.callbacks.Callback):
    """Adds the learning rate to the logs, so that TensorBoard, CSV and progress bar show it."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes into the logs that the later callbacks read."""
        if logs is not None:
            logs["learning_rate"] = float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            )


class _Log(keras.callbacks.Callback):
    """One line per epoch; written anew each time, so that a resumed run has every line once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.lines = str(path), []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Adds the epoch's line."""
        self.lines.append({"epoch": epoch, **(logs or {})})
        names = list(dict.fromkeys(name for line in self.lines for name in line))
        made = Path(f"{self.path}.writing")
        with made.open("w", newline="") as file:
            table = csv.DictWriter(file, names)
            table.writeheader()
            table.writerows(self.lines)
        made.replace(self.path)


class _Best(keras.callbacks.ModelCheckpoint):
    """The best model so far; without validation by the training's quantity."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Falls back to the training's quantity where there is no validation, then saves."""
        if self.monitor not in (logs or {}):
            self.monitor = self.monitor.removeprefix("val_")
        super().on_epoch_end(epoch, logs)


def callbacks(
    run_dir: str | os.PathLike,
    *,
    data: Any = None,
    monitor: str = "val_loss",
    mode: str | None = None,
    histogram_freq: int = 1,
    save_steps: int | None = None,
    nonfinite: str = "stop",
    trace: tuple[int, int] | None = None,
) -> list[keras.callbacks.Callback]:
    """Returns TensorBoard, best checkpoint, CSV log, guard and resume, all under one folder.

    `run_dir/tensorboard` holds scalars per head, learning rate, graph, weight histograms and,
    step times, data wait, memory and utilisation (`Profile`, which also prints a table at the
    end), and with `data` samples of every modality with prediction and truth each epoch;
    `run_dir/best.keras` the best model by `monitor` (`val_loss`, or `loss` when there is no
    validation); `run_dir/log.csv` one line per epoch; `run_dir/nonfinite` the batches of steps
    that were not finite (`NonFiniteGuard`); `run_dir/checkpoints` what an interrupted run
    needs to go on exactly where it was (`Resume`; removed when `fit` ends). Of several workers
    only the chief gets what writes logs and models.

    Args:
        run_dir: folder of the run; made if missing.
        data: the `mk.data.table(...)` result, for the samples.
        monitor: quantity of the best checkpoint.
        mode: "min" or "max"; when None, "min" for a loss or an error by its name, else "max".
        histogram_freq: epochs between weight histograms; 0 for none.
        save_steps: steps between checkpoints inside an epoch; None for epochs' ends alone.
        nonfinite: "stop" or "skip" a step whose loss or gradient is not finite.
        trace: first and last step of which TensorBoard's Profile tab gets a trace.

    Raises:
        ValueError: the folder cannot be written.
    """
    run_dir = Path(run_dir)
    always = [
        _LearningRate(),
        NonFiniteGuard(workers.own(run_dir / "nonfinite"), nonfinite),
        Resume(run_dir / "checkpoints", every_steps=save_steps),
    ]
    if not workers.is_chief():
        return always
    _writable(run_dir)
    tensorboard = run_dir / "tensorboard"
    mode = mode or ("min" if monitor.endswith(LOWER_IS_BETTER) else "max")
    made = [
        always[0],
        keras.callbacks.TensorBoard(str(tensorboard), histogram_freq=histogram_freq),
        _Best(str(run_dir / "best.keras"), monitor=monitor, mode=mode, save_best_only=True),
        _Log(run_dir / "log.csv"),
        Profile(tensorboard / "profile", trace=trace),
        *always[1:],
    ]
    if data is not None:
        made.append(Samples(str(tensorboard / "samples"), data))
    return made


def _writable(run_dir: Path) -> None:
    probe = run_dir / ".write_test"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"The run folder must be writable. Received: {str(run_dir)!r} ({error.strerror}). "
            "Choose another folder or change its permissions."
        ) from error
