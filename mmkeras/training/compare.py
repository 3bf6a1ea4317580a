"""`compare`: every fusion on the same encoders, data, budget and seeds, in one resumable call."""

import json
import os
import shutil
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
from mmkeras.training import cost, hparams, memory, report, settings
from mmkeras.training import task as tasks
from mmkeras.training.baseline import constant
from mmkeras.training.resume import Resume
from mmkeras.training.width import UNIT, widest

LISTED = ("row", "seed", "hidden_dim", "parameters")
"""What the HParams tab shows of every run."""


def compare(
    data: Data,
    encoders: Mapping[str, Any] | None = None,
    fusions: Sequence[Any] | Mapping[str, Any] | None = None,
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

    Rows: every fusion; each modality alone ("NAME_only": the same encoder, the default fusion, or
    the late transformer where that takes no single modality, which is said); "majority", the best
    constant answer by the training rows. Every row is trained with every seed for the same steps
    on the same batches in the same order, and evaluated after its last epoch. A killed call goes
    on where it stopped, within a training at its last epoch; further fusions or seeds for the same
    `out` only train what is new. Several processes may share `out`, each with seeds of its own; a
    last call with all of them then makes the tables.

    Under `out`: `table.md` and `table.csv`; `result.json`, what this function returns;
    `quality_against_cost.png`; `logs` for TensorBoard (HParams tab); `runs`, what is measured.

    Args:
        data: `mk.data.table(...)`, with `train` and the splits.
        encoders: as of `assemble`, but no finished models: every run makes its own.
        fusions: names, dicts `{"name": ..., **arguments}` or classes; or row name -> one of these.
            None: all of `mk.fusion.FUSIONS` that take these modalities; it is said why others do
            not.
        heads: output name -> new head; every run gets a copy.
        out: folder of the comparison.
        seeds: of initialisation, dropout, order and augmentation.
        parameters: budget: each row gets the widest `hidden_dim` (a multiple of 8, up to 2048)
            whose whole model has at most so many. None: all have the recipe's `hidden_dim`.
        recipe: "epochs" (10), "batch" (64), "rate" (0.001), "weight_decay" (0.01), "clip_norm"
            (1.0), "dropout" (0.1), "hidden_dim" (64), "jit" (False), "drop", "ema", "mix";
            see `mmkeras.training.recipe.train`.
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
    _check_budget(recipe, parameters)
    task = tasks.checked(data, encoders, heads, recipe, splits)
    rows = _rows(task, fitting(task, default) if fusions is None else fusions, default)
    _check_widths(rows, parameters)
    settings.check_metric(metric, task.heads)
    out, seeds = Path(out), _seeds(seeds)
    held = settings.of(task, parameters=parameters)
    settings.check(out / "settings.json", held)
    sizes = {n: _size(task, n, row, parameters, out / "runs" / n) for n, row in rows.items()}
    for name, size in sizes.items():  # nothing is written before every row is known to work
        (out / "runs" / name).mkdir(parents=True, exist_ok=True)
        files.write_json(out / "runs" / name / "row.json", size)
    files.write_json(out / "settings.json", held)
    todo = [(s, n) for s in seeds for n in rows if not _measured(out, n, s).exists()]
    bar = _Bar(len(todo), task.recipe["epochs"], task.steps)
    for number, (seed, name) in enumerate(todo):
        print(f"{name}, seed {seed} ({number + 1} of {len(todo)} runs)", flush=True)
        _run(task, rows[name], seed, _measured(out, name, seed), bar.of(number))
    return _report(task, rows, seeds, out, (metric, default))


def fitting(task: tasks.Task, default: str) -> list[str]:
    """Returns the registered fusions that take the task's modalities; says why others do not.

    Raises:
        ValueError, TypeError: encoders or heads are wrong, so that not even the default is built.
    """
    if default in FUSIONS:
        task.build(default, UNIT)
    found = []
    for name in FUSIONS:
        try:
            task.build(name, UNIT)
            found.append(name)
        except ValueError as error:
            print(f"Without {name}: {error}", flush=True)
    return found


def _check_budget(recipe: Mapping[str, Any] | None, parameters: int | None) -> None:
    if parameters is not None and "hidden_dim" in (recipe or {}):
        raise ValueError(
            "A budget decides the widths. Received: both `parameters` and recipe['hidden_dim']. "
            "Leave one out."
        )


def _check_widths(rows: Mapping[str, SimpleNamespace], parameters: int | None) -> None:
    for name, row in rows.items():
        for one in row.fusion if isinstance(row.fusion, list | tuple) else [row.fusion]:
            if isinstance(one, Mapping) and "hidden_dim" in one:
                rule = "`parameters` decides it" if parameters else "the recipe's is that of all"
                raise ValueError(
                    f"A compared fusion must have no width of its own: {rule}. Received: "
                    f"hidden_dim={one['hidden_dim']} in the row {name!r}. Leave it out, or give "
                    "recipe={'hidden_dim': ...}."
                )


def _seeds(seeds: Sequence[int]) -> list[int]:
    found = [checks.whole("seed", seed, 0) for seed in seeds]
    if not found or len(set(found)) < len(found):
        raise ValueError(
            "`seeds` must hold at least one, each once: two runs of a seed are one. Received: "
            f"{found}. Give e.g. seeds=(0, 1, 2)."
        )
    return found


def _rows(task: tasks.Task, fusions: Any, default: str) -> dict[str, SimpleNamespace]:
    """Returns row -> its fusion and modalities."""
    named, names = settings.named(fusions), tuple(task.data.modalities)
    if default not in named:
        raise ValueError(
            f"`default` must be one of the compared rows. Received: {default!r} of "
            f"{', '.join(named)}. Add it to `fusions`, or name another."
        )
    alone = {f"{name}_only": name for name in names if len(names) > 1}
    for name in {*alone, "majority"} & set(named):
        raise ValueError(
            f"The row {name!r} is one that every comparison has. Received: a fusion of this name. "
            "Name it otherwise: fusions={'name': ...}."
        )
    rows = {name: SimpleNamespace(fusion=held, modalities=names) for name, held in named.items()}
    for row, name in alone.items():
        rows[row] = SimpleNamespace(fusion=_of_one(task, named[default], name), modalities=(name,))
    return rows


def _of_one(task: tasks.Task, fusion: Any, name: str) -> Any:
    """Returns the fusion, or the late transformer in place of one that takes no single modality."""
    try:
        task.of((name,), 0).build(fusion, UNIT)
    except ValueError as error:
        print(f"{name}_only is fused by late_transformer: {error}", flush=True)
        return "late_transformer"
    return fusion


def _size(
    task: tasks.Task, name: str, row: SimpleNamespace, parameters: int | None, folder: Path
) -> dict:
    """Finds width and parameters of a row, which is thereby known to work, or reads them."""
    about = {"fusion": settings.described(row.fusion), "modalities": list(row.modalities)}
    file = folder / "row.json"
    if file.exists():
        size = json.loads(file.read_text())
        settings.same(folder, {key: size[key] for key in about}, about)
    else:
        size = {**about, **_widest(task, name, row, parameters)}
    row.width, row.parameters = size["hidden_dim"], size["parameters"]
    return size


def _widest(
    task: tasks.Task, name: str, row: SimpleNamespace, parameters: int | None
) -> dict[str, int]:
    keras.backend.clear_session()
    part = task.of(row.modalities, 0)
    shared = {
        modality: encoder_family.get(task.encoders.get(modality), modality, spec)
        for modality, spec in part.data.modalities.items()
    }

    def count(width: int) -> int:
        return part.build(row.fusion, width, shared).count_params()

    width = task.recipe["hidden_dim"]
    if parameters is not None:
        width = widest(count, checks.whole("parameters", parameters), name)
    return {"hidden_dim": width, "parameters": count(width)}


def _measured(out: Path, name: str, seed: int) -> Path:
    return out / "runs" / name / str(seed) / "measured.json"


def _run(task: tasks.Task, row: SimpleNamespace, seed: int, file: Path, progress: Any) -> None:
    """Trains a row with a seed, and keeps what it is worth; with the first also what it costs."""
    start, folder, part = time.time(), file.parent, task.of(row.modalities, seed)
    resume = Resume(folder / "checkpoints", delete=False)  # not before all is measured
    model, losses, values = part.run(row.fusion, row.width, [resume, progress])
    name, costs = folder.parent.name, folder.parent / "cost.json"
    if not costs.exists():
        files.write_json(costs, _cost(model, part))
    about = {
        **dict(zip(LISTED, (name, seed, row.width, row.parameters), strict=True)),
        **{key: value for key, value in part.numbers.items() if isinstance(value, int | float)},
    }
    hparams.write_run(folder.parents[2] / "logs" / name / str(seed), about, losses, values)
    seconds = round(time.time() - start, 1)
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(file, {"values": values, "loss": losses, "seconds": seconds})
    shutil.rmtree(resume.folder, ignore_errors=True)


def _cost(model: keras.Model, task: tasks.Task) -> dict:
    x, y = next(iter(task.data.train(task.recipe["batch"])))
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
    task: tasks.Task, rows: Mapping, seeds: list[int], out: Path, judged: tuple[str, str]
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
    hparams.write_list(out / "logs", LISTED, task.splits, judged[0])
    report.write(out, result, *judged)
    return result
