"""Fusions on the same encoders, budget of parameters and of steps, data order and seeds.

    python -m experiments.compare --task easy_vqa --data DIR --out runs/compare_easy_vqa
        [--fusions film,gated] [--seeds 0,1,2,3,4] [--parameters N] [--epochs N]
        [--drop 0.3] [--quick]

Tasks, with data, encoders, recipe and measured split of the experiment of that name:

- easy_vqa: picture and question, at most 136,000 parameters each, official test.
- av_digits: degraded picture and recording ("avmnist degraded"), test. Also the test with one
  modality missing everywhere: where a model sees one sample at a time, its accuracy with the
  modality missing in a share r of the rows is a straight line in r between the two.
- grid_digits: lips and sound at -10 dB, val. The encoder of the lips has half the channels and a
  stage less than the experiment's, and there is one epoch: with all of them any fusion is right
  everywhere.
- mosi: words, voice and face of an utterance with those around it in its video, testpub.

Fusions: all of `mk.fusion.FUSIONS` that take the task's modalities, or some (late_transformer, with
which the others are compared, always among them). Each gets the widest `hidden_dim` whose whole
model has at most so many parameters as the budget says: where the task has none, as the late
transformer of 64. A killed run goes on where it stopped; several processes may share --out, each
with other seeds.

Writes result.json, table.md, table.csv, quality_against_cost.png, and logs for TensorBoard.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import av_digits, common, easy_vqa, grid_digits, mosi
from experiments.result import about, write

DEFAULT = "late_transformer"


def easy_vqa_task(folder: Path, quick: bool) -> dict:
    """Returns what `mk.compare` takes, by argument."""
    row = easy_vqa.ROWS["film"]
    data = easy_vqa.load(folder, row["modalities"], tune=False, quick=quick, seed=0)
    held = {"train": data.splits["train"], "test": data.splits["valid"]}
    return {
        "data": dataclasses.replace(data, splits=held),
        "encoders": row["encoders"],
        "heads": {"answer": mk.heads.Classifier(data.classes)},
        "parameters": easy_vqa.BUDGET,
        "recipe": {**easy_vqa.RECIPE, "dropout": 0.0},
        "splits": ("test",),
    }


def av_digits_task(folder: Path, quick: bool) -> dict:
    """Returns what `mk.compare` takes, by argument."""
    data = av_digits.table(av_digits.load(folder, quick), av_digits.BOTH, 0)
    every = np.arange(len(data.splits["test"]))
    lacking = {
        f"test_without_{name}": data.without("test", name, every).splits["test"]
        for name in av_digits.BOTH
    }
    return {
        "data": dataclasses.replace(data, splits={**data.splits, **lacking}),
        "encoders": av_digits.ENCODERS,
        "heads": {"digit": mk.heads.Classifier(data.classes)},
        "recipe": av_digits.RECIPE,
        "splits": ("test", "valid", *lacking),
    }


def grid_digits_task(folder: Path, quick: bool) -> dict:
    """Returns what `mk.compare` takes, by argument."""
    encoders = {
        "lips": {**grid_digits.CNN3D, "filters": (8, 16, 32), "depths": (1, 1, 1)},
        "audio": grid_digits.SOUND,
    }
    data = grid_digits.table(grid_digits.load(folder, grid_digits.SNR_DB, quick), tuple(encoders))
    return {
        "data": data,
        "encoders": encoders,
        "heads": {"digit": mk.heads.Classifier(data.classes)},
        "recipe": {**grid_digits.RECIPE, "epochs": 1},
    }


def mosi_task(folder: Path, quick: bool) -> dict:
    """Returns what `mk.compare` takes, by argument."""
    data = mosi.table(folder, mosi.ALL, mosi.AROUND, quick)
    held = {"train": data.splits["train"], "testpub": data.splits["valid"]}
    return {
        "data": dataclasses.replace(data, splits=held),
        "encoders": dict.fromkeys(mosi.ALL, mosi.ENCODER),
        "heads": {"sentiment": mk.heads.Classifier(data.classes)},
        "recipe": {**mosi.RECIPE, "dropout": 0.3},
        "splits": ("testpub",),
    }


TASKS = {
    "easy_vqa": easy_vqa_task,
    "av_digits": av_digits_task,
    "grid_digits": grid_digits_task,
    "mosi": mosi_task,
}


def settle(task: dict, args: argparse.Namespace) -> dict:
    """Returns the task with what the command line says, and a budget."""
    recipe = common.recipe(args, **task["recipe"])
    given = {"epochs": args.epochs, "drop": args.drop}
    recipe |= {key: value for key, value in given.items() if value is not None}
    budget = args.parameters or task.get("parameters")
    if budget is None:
        model = mk.assemble(
            task["data"].modalities, task["encoders"], DEFAULT, task["heads"], hidden_dim=64
        )
        budget = model.count_params()
    return {**task, "recipe": recipe, "parameters": budget}


def main() -> None:
    """Compares, and adds command, commit and machine to result.json."""
    args = common.arguments(
        __doc__,
        task={"required": True, "choices": tuple(TASKS)},
        fusions={"default": "", "help": "comma-separated (default: all that fit)"},
        parameters={"type": int, "help": "budget of each model"},
        epochs={"type": int, "help": "instead of the task's"},
        drop={"type": float, "help": "rate of modality dropout in training (default: none)"},
        seeds={"default": "0,1,2,3,4", "help": "comma-separated (default: %(default)s)"},
    )
    start = time.time()
    task = settle(TASKS[args.task](Path(args.data), args.quick), args)
    if args.fusions:
        task["fusions"] = tuple(dict.fromkeys([DEFAULT, *args.fusions.split(",")]))
    result = mk.compare(**task, seeds=args.seeds, out=args.out)
    result["name"] = f"compare_{args.task}"
    result["command"] = " ".join(["python -m experiments.compare", *sys.argv[1:]])
    result |= {**about("tensorflow", "keras"), "seconds": round(time.time() - start, 1)}
    write(args.out / "result.json", result)


if __name__ == "__main__":
    main()
