"""Exact resume: a run that was killed and started again ends as if nothing had happened.

`Resume(folder)` in `fit(callbacks=...)` saves, after all other callbacks, everything that the rest
of the run depends on: weights, optimizer (with EMA, loss scale, schedule step), seeds of every
random layer on every replica, metrics, position in the data, the state of the other callbacks, the
log, the random states of Python and NumPy, and which way XLA was chosen. `mmkeras.Model.fit` finds
it, restores the newest sound checkpoint and goes on at the next step.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.training import checkpoint, workers
from mmkeras.training.plain import plain
from mmkeras.training.state import capture, check, parts, restore

PREEMPTED = 75
"""Exit code of a run that SIGTERM has stopped and that can be started again (EX_TEMPFAIL)."""


class Resume(keras.callbacks.Callback):
    """Saves at every epoch's end, and goes on from there when `fit` is called again.

    Exact to the last bit on a CPU with `mk.training.seed(..., deterministic=True)`, for data from
    `mk.data.table(...).train(...)`, which are found again in O(1), and for any other
    `tf.data.Dataset` whose k-th pass is the same in every process (its batches up to the position
    are read again). The number of replicas must stay the same. SIGTERM saves after the running
    step and raises `SystemExit(mk.training.PREEMPTED)`.

    Of several workers each keeps its own state (seeds, metrics and callbacks differ), the chief in
    `folder` and the others in folders within it, and all go on from the newest step that all have.

    Args:
        folder: of the checkpoints; one per run.
        every_steps: also save every so many steps, counted over the whole run; None for epochs'
            ends alone.
        keep: checkpoints to keep, so that a corrupt one does not lose the run.
        delete: whether to remove the checkpoints when `fit` ends by itself, as Keras'
            BackupAndRestore does. False: calling `fit` again with more epochs goes on.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        every_steps: int | None = None,
        keep: int = 2,
        delete: bool = True,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.every_steps = every_steps and checks.whole("every_steps", every_steps)
        self.keep, self.delete = checks.whole("keep", keep), delete

    def load(self, strategy: tf.distribute.Strategy) -> tuple[dict, dict] | None:
        """Returns arrays and state of the newest checkpoint that every worker has, sound, if any.

        Raises:
            ValueError: several workers keep one checkpoint each: one that dies before it has
                written it would leave none that all have.
        """
        folder = workers.own(self.folder)
        if not workers.spans(strategy):
            return checkpoint.load(folder)
        if self.keep < 2:
            raise ValueError("Several workers must keep at least 2 checkpoints. Received: keep=1.")
        held = [*checkpoint.steps(folder)[: self.keep], *[-1] * (self.keep + 1)]
        step = workers.agree(strategy, held[: self.keep + 1])
        return None if step < 0 else checkpoint.load(folder, step)


class Callbacks(keras.callbacks.CallbackList):
    """Keras' list of a `fit`, which also restores, saves after all others, and heeds SIGTERM.

    Args:
        callbacks: of the user.
        resume: the `Resume` among them.
        held: arrays and state to restore, or None.
        **params: of Keras; `steps` are those of an epoch.
    """

    def __init__(self, callbacks: list, resume: Resume, held: tuple | None, **params: Any) -> None:
        super().__init__(callbacks, **params)
        self.resume, self.held, self.steps = resume, held, params["steps"]
        self.skipped = held[1]["step"] if held else 0
        self.position = (held[1]["epoch"], held[1]["step"]) if held else (0, 0)
        self.stopped = threading.Event()
        self.metrics: list | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Restores, after the others have reset themselves."""
        super().on_train_begin(logs)
        self.fresh = [plain(vars(callback)) for callback in self._kept()]
        if self.held:
            check(self.resume.folder, self.model, self._kept(), self.held[1], self.steps)
            restore(self.model, self._kept(), *self.held)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Restores once more inside an epoch, whose begin the others have seen before."""
        super().on_epoch_begin(epoch, logs)
        self.position = (epoch, 0)
        if self.skipped:
            restore(self.model, self._kept(), *self.held)
        self.held = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Says nothing of steps that were done before the interruption."""
        if batch >= self.skipped:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves when it is time, or when the process has been told to end."""
        if batch < self.skipped:
            return
        super().on_train_batch_end(batch, logs)
        epoch = self.position[0]
        self.position = (epoch, batch + 1)
        every = self.resume.every_steps
        if self.stopped.is_set() or every and (epoch * self.steps + batch + 1) % every == 0:
            self.save()

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Keeps the training's metrics, which an evaluation resets."""
        self.metrics = [parts(v) for v in self.model.metrics_variables]
        super().on_test_begin(logs)

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Saves when the process has been told to end during a validation."""
        super().on_test_batch_end(batch, logs)
        if self.stopped.is_set():
            self.save()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves after all others."""
        super().on_epoch_end(epoch, logs)
        self.position, self.skipped, self.metrics = (epoch + 1, 0), 0, None
        self.save()

    def save(self) -> None:
        """Writes a checkpoint of the position; ends the process when it has been told to."""
        arrays, state = capture(self.model, self._kept(), self.fresh, self.metrics)
        epoch, step = self.position
        state |= {"epoch": epoch, "step": step, "steps_per_epoch": self.steps}
        checkpoint.save(
            workers.own(self.resume.folder),
            epoch * self.steps + step,
            arrays,
            state,
            self.resume.keep,
        )
        if self.stopped.is_set():
            raise SystemExit(PREEMPTED)

    def _kept(self) -> list:
        """The callbacks whose state belongs to the run."""
        passing = (keras.callbacks.ProgbarLogger, Resume)
        return [c for c in self.callbacks if not isinstance(c, passing)]


@contextmanager
def heeding_sigterm(callbacks: Callbacks | None) -> Iterator[None]:
    """Lets SIGTERM end the run after a step instead of in it; only in the main thread."""
    if callbacks is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: callbacks.stopped.set())
    try:
        yield
    except tf.errors.OpError:
        # Another worker has left: what this one has done so far is whole.
        if callbacks.stopped.is_set():
            callbacks.save()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def find(callbacks: Any) -> Resume | None:
    """Returns the only `Resume` among the callbacks, or None."""
    found = [c for c in keras.tree.flatten(callbacks or []) if isinstance(c, Resume)]
    if len(found) > 1:
        raise ValueError(f"A run has one Resume at most. Received: {len(found)}. Leave one out.")
    return found[0] if found else None
