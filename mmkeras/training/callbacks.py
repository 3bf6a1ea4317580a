"""The callbacks of a run, and the folder they write to."""

import csv
import os
from pathlib import Path
from typing import Any

import keras

from mmkeras.training.samples import Samples

_LOWER_IS_BETTER = ("loss", "error", "mae", "mse", "rmse", "wer", "cer")


class _LearningRate(keras.callbacks.Callback):
    """Adds the learning rate to the logs, so that TensorBoard, CSV and progress bar show it."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes into the logs that the later callbacks read."""
        if logs is not None:
            logs["learning_rate"] = float(
                keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
            )


class _Best(keras.callbacks.ModelCheckpoint):
    """The best model so far; without validation by the training's quantity."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Falls back to the training's quantity where there is no validation, then saves."""
        if self.monitor not in (logs or {}):
            self.monitor = self.monitor.removeprefix("val_")
        super().on_epoch_end(epoch, logs)


def _earlier_best(log: Path, monitor: str, mode: str) -> float | None:
    """The best value that an interrupted run has logged."""
    with log.open(newline="") as file:
        lines = list(csv.DictReader(file))
    name = monitor if lines and monitor in lines[0] else monitor.removeprefix("val_")
    values = [float(line[name]) for line in lines if line.get(name)]
    return (min if mode == "min" else max)(values) if values else None


def callbacks(
    run_dir: str | os.PathLike,
    *,
    data: Any = None,
    monitor: str = "val_loss",
    mode: str | None = None,
    histogram_freq: int = 1,
    backup: bool = True,
) -> list[keras.callbacks.Callback]:
    """Returns TensorBoard, best checkpoint, backup and CSV log, all under one folder.

    `run_dir/tensorboard` holds scalars per head, learning rate, graph, weight histograms and,
    with `data`, samples of every modality with prediction and truth each epoch;
    `run_dir/best.keras` the best model by `monitor` (`val_loss`, or `loss` when there is no
    validation); `run_dir/log.csv` one line per epoch; `run_dir/backup` what BackupAndRestore
    needs to go on after an interruption (it is removed when `fit` ends; weights, optimizer and
    epoch come back, the order of the data and the state of dropout start anew).

    Args:
        run_dir: folder of the run; made if missing.
        data: the `mk.data.table(...)` result, for the samples.
        monitor: quantity of the best checkpoint.
        mode: "min" or "max"; when None, "min" for a loss or an error by its name, else "max".
        histogram_freq: epochs between weight histograms; 0 for none.
        backup: whether to keep a backup for restarts.

    Raises:
        ValueError: the folder cannot be written.
    """
    run_dir = _writable(run_dir)
    tensorboard = run_dir / "tensorboard"
    log = run_dir / "log.csv"
    resumed = backup and (run_dir / "backup").exists() and log.exists()
    mode = mode or ("min" if monitor.endswith(_LOWER_IS_BETTER) else "max")
    made = [
        _LearningRate(),
        keras.callbacks.TensorBoard(str(tensorboard), histogram_freq=histogram_freq),
        _Best(
            str(run_dir / "best.keras"),
            monitor=monitor,
            mode=mode,
            save_best_only=True,
            initial_value_threshold=_earlier_best(log, monitor, mode) if resumed else None,
        ),
        keras.callbacks.CSVLogger(str(log), append=resumed),
    ]
    if backup:
        made.append(
            keras.callbacks.BackupAndRestore(str(run_dir / "backup"), double_checkpoint=True)
        )
    if data is not None:
        made.append(Samples(str(tensorboard / "samples"), data))
    return made


def _writable(run_dir: str | os.PathLike) -> Path:
    run_dir = Path(run_dir)
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
    return run_dir
