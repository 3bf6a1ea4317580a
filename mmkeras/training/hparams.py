"""Runs for the HParams tab of TensorBoard."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf


def write_run(
    folder: Path,
    about: Mapping[str, float | str],
    losses: Sequence[float],
    values: Mapping[str, Mapping[str, float]],
) -> None:
    """Writes what a run is, its loss per epoch, and what it has reached; anew each time.

    Args:
        folder: of the run, under that of the others.
        about: hyperparameters.
        losses: of the epochs.
        values: split -> metric -> value, logged as "split/metric".
    """
    from tensorboard.plugins.hparams import api  # slow to import

    shutil.rmtree(folder, ignore_errors=True)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams(dict(about), trial_id="/".join(folder.parts[-2:]))
        for epoch, loss in enumerate(losses):
            tf.summary.scalar("train/loss", loss, step=epoch)
        for split, found in values.items():
            for name, value in found.items():
                tf.summary.scalar(f"{split}/{name}", value, step=max(len(losses) - 1, 0))
    writer.close()


def write_list(folder: Path, names: Sequence[str], splits: Sequence[str], metric: str) -> None:
    """Writes which hyperparameters and metrics the tab shows."""
    from tensorboard.plugins.hparams import api

    for old in folder.glob("events*"):
        old.unlink(missing_ok=True)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams_config(
            hparams=[api.HParam(name) for name in names],
            metrics=[api.Metric(f"{split}/{metric}") for split in splits],
        )
    writer.close()
