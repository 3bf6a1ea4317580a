"""`search`: KerasTuner over fusion, encoders, sizes and the numbers of the training."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from mmkeras.core import checks, files
from mmkeras.core.identifiers import nearest
from mmkeras.data.dataset import Data
from mmkeras.training import hparams, settings
from mmkeras.training import recipe as recipes
from mmkeras.training import task as tasks
from mmkeras.training.callbacks import LOWER_IS_BETTER
from mmkeras.training.width import UNIT

METHODS = {"bayesian": "BayesianOptimizationOracle", "random": "RandomSearchOracle"}
SPACE = {
    "fusion": ["concatenation", "gated", "late_transformer"],
    "hidden_dim": (32, 128),
    "rate": (3e-4, 1e-2),
}
SCALES = ("rate", "weight_decay")
"""Ranges that are searched by the logarithm."""


def search(
    data: Data,
    encoders: Mapping[str, Any] | None = None,
    heads: Mapping[str, keras.layers.Layer] | None = None,
    *,
    out: str | os.PathLike,
    space: Mapping[str, Any] | None = None,
    trials: int = 20,
    recipe: Mapping[str, Any] | None = None,
    metric: str = "accuracy",
    split: str = "valid",
    method: str = "bayesian",
    seed: int = 0,
) -> list[dict]:
    """Trains models of chosen settings and returns them, the best first.

    Every trial is built, trained and evaluated as a run of `mk.compare`, with the same seed. A
    killed search goes on where it stopped. Under `out`: `trials.json`, what this function
    returns; `logs` for TensorBoard (HParams tab); `trials`, KerasTuner's own.

    The score of the best is too good, as it was chosen by it: measure what was found on a test
    split, with several seeds (`mk.compare`).

    Args:
        data, encoders, heads: as of `mk.compare`.
        out: folder of the search.
        space: what is searched; `SPACE` when None. Keys: "fusion", "encoders.MODALITY", and the
            numbers of the recipe of `mk.compare`, "hidden_dim" and "dropout" among them. Values:
            a list of choices (names, dicts, classes, numbers), or the tuple (low, high) of a
            range: in steps of 8 for "hidden_dim", whole for two whole numbers, and by the
            logarithm for "rate" and "weight_decay".
        trials: how many.
        recipe: as of `mk.compare`, for what is not searched; a fusion that is not is "fusion".
        metric: as of `mk.compare`.
        split: where it is measured.
        method: "bayesian" (Gaussian processes) or "random".
        seed: of the search and of every training.

    Returns:
        A dict per trial: "score" (the metric), "values" (key of the space -> what was chosen),
        "parameters", "trial" (its folder under `logs`).

    Raises:
        ValueError, TypeError: before any training, with the rule, the received value and the way
            out; so for a folder that holds another search.
        ImportError: without KerasTuner.
    """
    _keras_tuner()
    recipe = dict(recipe or {})
    fusion = recipe.pop("fusion", "late_transformer")
    tasks.check_new("fusion", fusion)
    task = tasks.checked(data, encoders, heads, recipe, [split])
    space = _space({**SPACE} if space is None else dict(space), task)
    settings.check_metric(metric, task.heads)
    checks.one_of("method", method, METHODS)
    out, direction = Path(out), "min" if metric.endswith(LOWER_IS_BETTER) else "max"
    about = {"fusion": fusion, "space": space, "metric": metric, "method": method, "seed": seed}
    held = settings.of(task, **about)
    settings.check(out / "settings.json", held)
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(out / "settings.json", held)
    hparams.write_list(out / "logs", tuple(space), [split], metric)

    def run(trial: str, labels: dict) -> dict:
        values = {key: _meant(space[key], label) for key, label in labels.items()}
        found = _trial(task.of(tuple(data.modalities), seed), {"fusion": fusion, **values})
        known = {"parameters": found["parameters"], "score": found["values"][split][metric]}
        hparams.write_run(out / "logs" / trial, labels, found["losses"], found["values"])
        about = {**known, "values": settings.described(values), "trial": trial}
        files.write_json(out / "logs" / trial / "trial.json", about)
        return {metric: known["score"]}

    oracle = _oracle(method, space, (metric, direction), trials, seed)
    _tuner(run, oracle, out).search()
    done = [json.loads(file.read_text()) for file in (out / "logs").glob("*/trial.json")]
    sign = 1 if direction == "min" else -1
    done = sorted(done, key=lambda trial: (sign * trial["score"], trial["trial"]))
    files.write_json(out / "trials.json", done)
    return done


def _trial(task: tasks.Task, values: Mapping[str, Any]) -> dict:
    """Returns parameters, losses and values of the model that some values describe."""
    values = dict(values)
    fusion = values.pop("fusion")
    encoders = {
        key.removeprefix("encoders."): values.pop(key)
        for key in list(values)
        if key.startswith("encoders.")
    }
    recipe = {**task.recipe, **values}
    task = dataclasses.replace(task, recipe=recipe, encoders={**task.encoders, **encoders})
    model, losses, found = task.run(fusion, recipe["hidden_dim"])
    return {"parameters": model.count_params(), "losses": losses, "values": found}


def _space(space: Mapping[str, Any], task: tasks.Task) -> dict[str, Any]:
    """Returns key -> range (low, high), or label -> choice; raises for what nobody reads."""
    numbers = {*recipes.RECIPE, *recipes.OPTIONAL, *tasks.MODEL}
    known = {"fusion", *numbers, *(f"encoders.{name}" for name in task.data.modalities)}
    checked = {}
    for key, held in space.items():
        if key not in known:
            raise ValueError(f"Unknown key {key!r} in `space`. {nearest(key, known)}")
        if isinstance(held, tuple) and len(held) == 2 and key in numbers:
            low, high = (checks.real(f"space[{key!r}]", end) for end in held)
            if low >= high or key in SCALES and low == 0:
                raise ValueError(
                    f"The range of {key!r} must be (low, high), low below high and, where it is "
                    f"searched by the logarithm, above 0. Received: {held}."
                )
            checked[key] = held
        elif isinstance(held, list) and held:
            for choice in held:
                tasks.check_new(f"choice of {key!r}", choice)
            checked[key] = {_label(choice): choice for choice in held}
        else:
            raise ValueError(
                f"The space of {key!r} must be a list of choices, or, of a number, the tuple "
                f"(low, high). Received: {held!r}."
            )
    if not checked:
        raise ValueError("`space` must hold something to search. Received: nothing.")
    return checked


def _label(choice: Any) -> str:
    """Returns what stands for a choice in tables."""
    described = settings.described(choice)
    return described if isinstance(described, str) else json.dumps(described)


def _meant(space: Any, label: Any) -> Any:
    """Returns the choice of a label; a number of a range is itself."""
    return space[label] if isinstance(space, Mapping) else label


def _keras_tuner() -> Any:
    try:
        import keras_tuner
    except ImportError as error:
        raise ImportError("A search needs KerasTuner: pip install 'mmkeras[search]'.") from error
    return keras_tuner


def _oracle(method: str, space: Mapping, objective: tuple[str, str], trials: int, seed: int) -> Any:
    """Returns what chooses the next values."""
    keras_tuner = _keras_tuner()
    parameters = keras_tuner.HyperParameters()
    for key, held in space.items():
        if isinstance(held, Mapping):
            parameters.Choice(key, list(held), ordered=False)
        elif all(isinstance(end, int) for end in held):
            parameters.Int(key, *held, step=UNIT if key == "hidden_dim" else 1)
        else:
            sampling = "log" if key in SCALES else "linear"
            parameters.Float(key, *map(float, held), sampling=sampling)
    return getattr(keras_tuner.oracles, METHODS[method])(
        objective=keras_tuner.Objective(*objective),
        max_trials=checks.whole("trials", trials),
        hyperparameters=parameters,
        seed=seed + 1,  # it takes 0 for none
    )


def _tuner(run: Callable[[str, dict], dict], oracle: Any, out: Path) -> Any:
    """Returns a tuner that goes on with what `out` holds."""

    class Tuner(_keras_tuner().Tuner):
        def run_trial(self, trial: Any) -> dict:
            return run(trial.trial_id, dict(trial.hyperparameters.values))

    return Tuner(oracle, directory=str(out), project_name="trials")
