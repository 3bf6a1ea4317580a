"""`compare`: every fusion on the same encoders, data, budget and seeds, in one resumable call."""

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras

from mmkeras import encoders as encoder_family
from mmkeras.core import checks, files
from mmkeras.data.dataset import Data
from mmkeras.fusion import FUSIONS
from mmkeras.models import graph
from mmkeras.training import cost, hparams, memory, report, settings
from mmkeras.training import recipe as recipes
from mmkeras.training.baseline import constant
from mmkeras.training.model import Model
from mmkeras.training.resume import Resume
from mmkeras.training.runtime import seed as set_seeds
from mmkeras.training.width import widest

MODEL = {"hidden_dim": 64, "dropout": 0.1, "jit": False}
"""What the recipe of a comparison holds beside that of a training."""


def compare(
    data: Data,
    encoders: Mapping[str, Any] | None = None,
    fusions: Sequence[Any] | Mapping[str, Any] = tuple(FUSIONS),
    heads: Mapping[str, keras.layers.Layer] | None = None,
    *,
    out: str | os.PathLike,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    parameters: int | None = None,
    recipe: Mapping[str, Any] | None = None,
    metric: str = "accuracy",
    splits: Sequence[str] = ("valid",),
    default: str = "late_transformer",
) -> dict:
    """Trains and measures every fusion on the same encoders, and says which are better.

    Rows: every fusion; each modality alone ("NAME_only": the same encoder, the default fusion);
    "majority", the best constant answer by the training rows. Every row is trained with every
    seed for the same steps on the same batches in the same order, and evaluated after its last
    epoch. A killed call goes on where it stopped, within a training at its last epoch; further
    fusions or seeds for the same `out` only train what is new. Several processes may share `out`,
    each with seeds of its own; a last call with all of them then makes the tables.

    Under `out`: `table.md` and `table.csv`; `result.json`, what this function returns;
    `quality_against_cost.png`; `logs` for TensorBoard (HParams tab); `runs`, what is measured.

    Args:
        data: `mk.data.table(...)`, with `train` and the splits.
        encoders: as of `assemble`, but no finished models: every run makes its own.
        fusions: names, dicts `{"name": ..., **arguments}` or classes; or row name -> one of these.
        heads: output name -> new head; every run gets a copy.
        out: folder of the comparison.
        seeds: of initialisation, dropout, order and augmentation.
        parameters: budget: each row gets the widest `hidden_dim` (a multiple of 8, up to 2048)
            whose whole model has at most so many. None: all have the recipe's `hidden_dim`.
        recipe: "epochs" (10), "batch" (64), "rate" (0.001), "weight_decay" (0.01), "clip_norm"
            (1.0), "dropout" (0.1), "hidden_dim" (64), "jit" (False), "ema", "mix"; see
            `mmkeras.training.recipe.train`.
        metric: of the table, as `evaluate` names it ("answer_accuracy" with several heads). What
            ends in "loss" or the name of an error is better when lower.
        splits: where it is evaluated; the first is the one of the picture.
        default: the row that the others are compared with.

    Returns:
        {"rows": [...], "settings": ..., ...}. A row has, per split: "values" by seed, "mean" with
        its 95 % t-"interval"; "against_default": "difference" with its interval and "p" of the
        t-test paired by seed, "p_holm" corrected for the number of rows; "parameters",
        "hidden_dim"; and, measured once per row (see `mmkeras.training.cost`, `.memory`),
        "flops" of the forward pass of a sample, "step_ms" of a training step on a batch,
        "latency_ms" of the answer to one sample, "peak_mb" of a training step's activations.

    Raises:
        ValueError, TypeError: before any training, with the rule, the received value and the way
            out; so for a folder that holds a comparison with other settings.
        ImportError: without matplotlib.
    """
    report.pyplot()
    task = _task(data, encoders, heads, _recipe(recipe, parameters), tuple(splits))
    rows = _rows(task, fusions, default)
    settings.check_metric(metric, task.heads)
    out, seeds = Path(out), [checks.whole("seed", seed, 0) for seed in seeds]
    settings.claim(out, settings.of(task, parameters))
    for name, row in rows.items():
        _size(task, name, row, parameters, out / "runs" / name)
    todo = [(s, n) for s in seeds for n in rows if not _measured(out, n, s).exists()]
    bar = _Bar(len(todo), task.recipe["epochs"], task.steps)
    for number, (seed, name) in enumerate(todo):
        print(f"{name}, seed {seed} ({number + 1} of {len(todo)} runs)", flush=True)
        _run(task, rows[name], seed, _measured(out, name, seed), bar.of(number))
    return _report(task, rows, seeds, out, (metric, default))


def _recipe(given: Mapping[str, Any] | None, parameters: int | None) -> dict:
    if parameters is not None:
        checks.whole("parameters", parameters)
        if "hidden_dim" in (given or {}):
            raise ValueError(
                "A budget decides the widths. Received: both `parameters` and "
                "recipe['hidden_dim']. Leave one out."
            )
    return recipes.checked(given, MODEL)


def _task(
    data: Data, encoders: Mapping | None, heads: Mapping | None, numbers: dict, splits: tuple
) -> SimpleNamespace:
    """Returns what all rows share, checked."""
    if not isinstance(data, Data):
        raise TypeError(f"`data` must be mk.data.table(...). Received: {type(data).__name__}.")
    for split in splits:
        data._split(split)
    for name, encoder in (encoders or {}).items():
        settings.check_new(f"encoder of {name!r}", encoder)
    for name, head in (heads or {}).items():
        if not isinstance(head, keras.layers.Layer) or head.built:
            raise ValueError(
                f"The head {name!r} must be a new layer, of which every run gets a copy. "
                f"Received: {head!r}. Make it anew: mk.heads.Classifier(data.classes)."
            )
    return SimpleNamespace(
        data=data,
        encoders=dict(encoders or {}),
        heads=dict(heads or {}),
        recipe=numbers,
        splits=splits or ("valid",),
        steps=data.train(numbers["batch"]).steps,
    )


def _rows(task: SimpleNamespace, fusions: Any, default: str) -> dict[str, SimpleNamespace]:
    """Returns row -> its fusion and modalities."""
    named, names = settings.named(fusions), tuple(task.data.modalities)
    if default not in named:
        raise ValueError(
            f"`default` must be one of the compared rows. Received: {default!r} of "
            f"{', '.join(named)}. Add it to `fusions`, or name another."
        )
    rows = {name: SimpleNamespace(fusion=held, modalities=names) for name, held in named.items()}
    for name in names if len(names) > 1 else ():
        rows[f"{name}_only"] = SimpleNamespace(fusion=named[default], modalities=(name,))
    return rows


def _build(task: SimpleNamespace, row: SimpleNamespace, width: int, encoders: Mapping) -> Model:
    heads = {
        name: type(head).from_config({**head.get_config(), "name": name})
        for name, head in task.heads.items()
    }
    inputs, outputs = graph(
        {name: task.data.modalities[name] for name in row.modalities},
        {name: encoders[name] for name in row.modalities if name in encoders},
        row.fusion,
        heads,
        hidden_dim=width,
        dropout=task.recipe["dropout"],
    )
    return Model(inputs, outputs, name="multimodal")


def _size(
    task: SimpleNamespace, name: str, row: SimpleNamespace, parameters: int | None, folder: Path
) -> None:
    """Finds width and parameters of a row, which is thereby known to work, or reads them."""
    about = {"fusion": settings.described(row.fusion), "modalities": list(row.modalities)}
    file = folder / "row.json"
    held = json.loads(file.read_text()) if file.exists() else None
    if held is None:
        keras.backend.clear_session()
        shared = {
            m: encoder_family.get(task.encoders.get(m), m, task.data.modalities[m])
            for m in row.modalities
        }

        def count(width: int) -> int:
            return _build(task, row, width, shared).count_params()

        width = task.recipe["hidden_dim"]
        if parameters is not None:
            width = widest(count, parameters, name)
        held = {**about, "hidden_dim": width, "parameters": count(width)}
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(file, held)
    settings.same(folder, {key: held[key] for key in about}, about)
    row.width, row.parameters = held["hidden_dim"], held["parameters"]


def _measured(out: Path, name: str, seed: int) -> Path:
    return out / "runs" / name / str(seed) / "measured.json"


def _run(task: SimpleNamespace, row: SimpleNamespace, seed: int, file: Path, progress: Any) -> None:
    """Trains a row with a seed, and keeps what it is worth; with the first also what it costs."""
    start, folder = time.time(), file.parent
    keras.backend.clear_session()
    set_seeds(seed)
    parts = {name: task.data.modalities[name] for name in row.modalities}
    data = dataclasses.replace(task.data, modalities=parts, seed=seed)
    model = _build(task, row, row.width, task.encoders)
    numbers = {key: value for key, value in task.recipe.items() if key not in _MODEL_ONLY}
    callbacks = [Resume(folder / "checkpoints"), progress]
    history = recipes.train(model, data, numbers, callbacks=callbacks, verbose=0)
    values = {
        split: model.evaluate(data.batches(split, 256), return_dict=True, verbose=0)
        for split in task.splits
    }
    row_folder = folder.parent
    if not (row_folder / "cost.json").exists():
        files.write_json(row_folder / "cost.json", _cost(model, data, task.recipe["batch"]))
    about = {
        "row": row_folder.name,
        "seed": seed,
        "hidden_dim": row.width,
        "parameters": row.parameters,
        **{key: value for key, value in numbers.items() if isinstance(value, int | float)},
    }
    logs = row_folder.parents[1] / "logs" / row_folder.name / str(seed)
    hparams.write_run(logs, about, history.history["loss"], values)
    seconds = round(time.time() - start, 1)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(file, {"values": values, "loss": history.history["loss"], "seconds": seconds})


_MODEL_ONLY = ("hidden_dim", "dropout")


def _cost(model: Model, data: Data, batch: int) -> dict:
    x, y = next(iter(data.train(batch)))
    one = {name: value[:1] for name, value in x.items()}
    return {
        "flops": cost.forward_flops(model, 1, unroll=True),
        "step_ms": cost.step_ms(model, (x, y)),
        "latency_ms": cost.latency_ms(model, one),
        "peak_mb": memory.step_memory(model, (x, y)),
        "load": os.getloadavg()[0],
    }


class _Bar:
    """One progress bar, with the time that is left, over the steps of all runs."""

    def __init__(self, runs: int, epochs: int, steps: int) -> None:
        often = 0.2 if os.isatty(1) else 60.0
        self.steps, self.per_run = steps, epochs * steps
        self.bar = keras.utils.Progbar(runs * self.per_run, interval=often, unit_name="step")

    def of(self, number: int) -> keras.callbacks.Callback:
        """Returns the callback of a run."""
        place = SimpleNamespace(epoch=0)  # not a plain attribute, which `Resume` would restore

        def epoch(index: int, logs: Any) -> None:
            place.epoch = index

        def batch(index: int, logs: Any) -> None:
            done = number * self.per_run + place.epoch * self.steps + index + 1
            self.bar.update(done)

        return keras.callbacks.LambdaCallback(on_epoch_begin=epoch, on_train_batch_end=batch)


def _report(
    task: SimpleNamespace, rows: Mapping, seeds: list[int], out: Path, judged: tuple[str, str]
) -> dict:
    """Collects what is measured, writes tables, picture and TensorBoard's list, returns all."""
    held = {}
    for name, row in rows.items():
        values = [json.loads(_measured(out, name, s).read_text())["values"] for s in seeds]
        costs = json.loads((out / "runs" / name / "cost.json").read_text())
        sizes = {"parameters": row.parameters, "hidden_dim": row.width}
        held[name] = {**sizes, **costs, "values": values}
    guess = {split: constant(task.data, task.heads, split) for split in task.splits}
    held["majority"] = {"parameters": 0, "values": [guess]}
    result = report.result(held, task.splits, *judged)
    result["seeds"] = seeds
    result["settings"] = json.loads((out / "settings.json").read_text())
    hparams.write_list(out / "logs", task.splits, judged[0])
    report.write(out, result, *judged)
    return result
