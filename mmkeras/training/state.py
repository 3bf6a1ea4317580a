"""Everything that the rest of a run depends on: captured, restored, and checked to be of it."""

import random
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkeras.training.plain import packed, plain, same, tuples, unpacked


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
        now = plain(vars(callback))
        changed = {k: v for k, v in now.items() if not same(v, before.get(k, same))}
        kept.append({"class": type(callback).__name__, "attributes": packed(changed, arrays)})
    state = {
        "variables": [
            [_path(v), list(v.shape), len(held)] for v, held in zip(variables, values, strict=True)
        ],
        "replicas": model.distribute_strategy.num_replicas_in_sync,
        "callbacks": kept,
        "jit": model.jit,
        "python": packed(random.getstate(), arrays),
        "numpy": packed(np.random.get_state(), arrays),
    }
    return arrays, state


def restore(model: keras.Model, callbacks: list, arrays: dict, state: dict) -> None:
    """Undoes `capture`."""
    for i, (variable, (_, _, count)) in enumerate(
        zip(_variables(model), state["variables"], strict=True)
    ):
        assign(variable, [arrays[f"variable/{i}/{r}"] for r in range(count)])
    for callback, held in zip(callbacks, state["callbacks"], strict=True):
        for name, value in unpacked(held["attributes"], arrays).items():
            setattr(callback, name, value)
    random.setstate(tuples(unpacked(state["python"], arrays)))
    np.random.set_state(tuples(unpacked(state["numpy"], arrays)))


def check(folder: Path, model: keras.Model, callbacks: list, state: dict, steps: int) -> None:
    """Raises when a checkpoint in `folder` is of another run than the one that is to go on."""
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
                f"The checkpoint in {str(folder)!r} must be of this very run. Received: "
                f"{what} {now}, the checkpoint has {saved}. Restore the script as it was, or "
                "choose another run folder to train anew."
            )


def _variables(model: keras.Model) -> list:
    """Every variable of the run, metrics last."""
    return [*model.variables, *model.optimizer.variables, *model.metrics_variables]


def _path(variable: Any) -> str:
    """Path of a variable without the numbers that Keras gives the objects of a process."""
    return re.sub(r"_\d+(?=[/_]|$)", "", variable.path)
