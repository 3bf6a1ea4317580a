"""Exact resume: a run that was killed and started again ends as if nothing had happened.

`Resume(folder)` in `fit(callbacks=...)` saves, after all other callbacks, everything that the rest
of the run depends on: weights, optimizer (with EMA, loss scale, schedule step), seeds of every
random layer on every replica, metrics, position in the data, the state of the other callbacks, the
log, the random states of Python and NumPy, and which way XLA was chosen. `mmkeras.Model.fit` finds
it, restores the newest sound checkpoint and goes on at the next step.
"""

import os
import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.training import checkpoint, workers

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
        self.fresh = [_plain(vars(callback)) for callback in self._kept()]
        if self.held:
            check(self.resume, self.model, self._kept(), self.held[1], self.steps)
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


def parts(variable: Any) -> list[np.ndarray]:
    """Values of a Keras variable on the replicas of this process; one where they are equal."""
    held = [np.asarray(v) for v in getattr(variable.value, "values", [variable.value])]
    same = all(v.tobytes() == held[0].tobytes() for v in held[1:])
    return held[:1] if same else held


def assign(variable: Any, values: list[np.ndarray]) -> None:
    """Gives a Keras variable its values on the replicas of this process.

    One by one: assigned as a whole, a sum over replicas would be divided among them.
    """
    held = getattr(variable.value, "values", [variable.value])
    for part, value in zip(held, values if len(values) > 1 else values * len(held), strict=True):
        part.assign(value)


def capture(
    model: keras.Model, callbacks: list, fresh: list[dict], metrics: list | None = None
) -> tuple[dict, dict]:
    """Returns everything that the rest of a run depends on, as arrays and JSON.

    Args:
        model: compiled and built.
        callbacks: whose plain attributes are kept where they differ from `fresh`.
        fresh: the plain attributes after `on_train_begin`.
        metrics: values of the metrics' variables, if not those they have now.
    """
    variables = _variables(model)
    values = [parts(v) for v in variables]
    if metrics is not None:
        values[len(values) - len(metrics) :] = metrics
    arrays = {
        f"variable/{i}/{r}": value for i, held in enumerate(values) for r, value in enumerate(held)
    }
    kept = []
    for callback, before in zip(callbacks, fresh, strict=True):
        now = _plain(vars(callback))
        changed = {k: v for k, v in now.items() if not _same(v, before.get(k, _same))}
        kept.append({"class": type(callback).__name__, "attributes": _packed(changed, arrays)})
    state = {
        "variables": [
            [_path(v), list(v.shape), len(held)] for v, held in zip(variables, values, strict=True)
        ],
        "replicas": model.distribute_strategy.num_replicas_in_sync,
        "callbacks": kept,
        "jit": model.jit,
        "python": _packed(random.getstate(), arrays),
        "numpy": _packed(np.random.get_state(), arrays),
    }
    return arrays, state


def restore(model: keras.Model, callbacks: list, arrays: dict, state: dict) -> None:
    """Undoes `capture`."""
    for i, (variable, (_, _, count)) in enumerate(
        zip(_variables(model), state["variables"], strict=True)
    ):
        assign(variable, [arrays[f"variable/{i}/{r}"] for r in range(count)])
    for callback, held in zip(callbacks, state["callbacks"], strict=True):
        for name, value in _unpacked(held["attributes"], arrays).items():
            setattr(callback, name, value)
    random.setstate(_tuples(_unpacked(state["python"], arrays)))
    np.random.set_state(_tuples(_unpacked(state["numpy"], arrays)))


def check(resume: Resume, model: keras.Model, callbacks: list, state: dict, steps: int) -> None:
    """Raises when a checkpoint is of another run than the one that is to go on."""
    names = [type(c).__name__ for c in callbacks]
    for what, saved, now in (
        ("steps per epoch", state["steps_per_epoch"], steps),
        ("replicas", state["replicas"], model.distribute_strategy.num_replicas_in_sync),
        (
            "variables",
            [v[:2] for v in state["variables"]],
            [[_path(v), list(v.shape)] for v in _variables(model)],
        ),
        ("callbacks", [c["class"] for c in state["callbacks"]], names),
    ):
        if saved != now:
            if isinstance(saved, list):
                pairs = zip([*saved, None], [*now, None], strict=False)
                saved, now = next(pair for pair in pairs if pair[0] != pair[1])
            raise ValueError(
                f"The checkpoint in {str(resume.folder)!r} must be of this very run. Received: "
                f"{what} {now}, the checkpoint has {saved}. Restore the script as it was, or "
                "choose another run folder to train anew."
            )


def _variables(model: keras.Model) -> list:
    """Every variable of the run, metrics last."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _path(variable: Any) -> str:
    """Path of a variable without the numbers that Keras gives the objects of a process."""
    return re.sub(r"_\d+(?=[/_]|$)", "", variable.path)


_PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))
_OMITTED = ("params", "validation_data", "_is_tracing", "_profiler_started", "_should_trace")


def _plain(value: Any) -> Any:
    """A copy of what is plain data in a dict; what is not, is left out."""
    if isinstance(value, dict):
        return {
            k: _plain(v)
            for k, v in value.items()
            if isinstance(k, str) and k not in _OMITTED and _is_plain(v)
        }
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if tf.is_tensor(value):
        return np.asarray(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or tf.is_tensor(value) and not isinstance(value, tf.Variable)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other


def _packed(value: Any, arrays: dict) -> Any:
    """JSON of plain data, with arrays put aside."""
    if isinstance(value, np.ndarray | np.generic):
        arrays[f"value/{len(arrays)}"] = np.asarray(value)
        return {"array": f"value/{len(arrays) - 1}", "scalar": isinstance(value, np.generic)}
    if isinstance(value, dict):
        return {"dict": {k: _packed(v, arrays) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [_packed(v, arrays) for v in value]
    return value


def _unpacked(value: Any, arrays: dict) -> Any:
    if isinstance(value, list):
        return [_unpacked(v, arrays) for v in value]
    if isinstance(value, dict) and "dict" in value:
        return {k: _unpacked(v, arrays) for k, v in value["dict"].items()}
    if isinstance(value, dict):
        held = arrays[value["array"]]
        return held[()] if value["scalar"] else held
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
