"""Two tasks in one model: ways to weigh their losses, beside a model for each task alone.

    python -m experiments.multi_task --data DIR --out runs/multi_task [--seeds 0,1,2] [--quick]

grocery: 81 fine and 43 coarse classes of photos (Klasson et al. 2019, official training and
validation pictures, at 48 pixels). easy_vqa: the answer (13 classes) and what is asked for (a
colour, a shape, presence, absence), from the questions of 600 training pictures; accuracy on the
official test questions. Rows of each: either head alone, and both with every way of
`mk.training.tasks`; "fixed" weighs both losses by 1. All rows of a set have the same encoders,
fusion and recipe. Beside the accuracies: the cosine of the tasks' gradients on the weights of the
layer that the heads read (with "pcgrad" on all shared ones), mean of the last epoch, and the last
weights of the losses.

DIR holds `grocery` and `easy_vqa`, each as its own experiment wants it.
"""

import csv
from pathlib import Path

import mmkeras as mk
from experiments import common, easy_vqa, grocery

WAYS = ("fixed", "uncertainty", "gradnorm", "dwa", "pcgrad")
SETS = {
    "grocery": {
        "tasks": ("fine", "coarse"),
        "recipe": {"epochs": 20, "batch": 32, "rate": 2e-3, "weight_decay": 5e-2},
        "encoders": {"image": {"name": "cnn", "filters": (24, 48, 96), "dropout": 0.1}},
        "fusion": "concatenation",
        "hidden_dim": 128,
        "split": "val",
    },
    "easy_vqa": {
        "tasks": ("answer", "asked"),
        "recipe": {"epochs": 12, "batch": 64, "rate": 2e-3, "weight_decay": 1e-3},
        "encoders": easy_vqa.ROWS["film"]["encoders"],
        "fusion": "film",
        "hidden_dim": 64,
        "split": "test",
    },
}
ROWS = {
    f"{name}_{row}": (name, row) for name, about in SETS.items() for row in (*about["tasks"], *WAYS)
}
PICTURES = 600


def asked(question: str) -> str:
    """Returns what a question of easy-VQA asks for.

    >>> asked("is there not a blue shape?")
    'absence'
    """
    words = question.rstrip("?").split()
    if words[0] == "what":
        return "colour" if "color" in words else "shape"
    return "absence" if {"not", "no"} & set(words) else "presence"


def load(folder: Path, name: str, quick: bool, seed: int) -> mk.data.Data:
    """Returns the data of a set with both targets."""
    if name == "grocery":
        return grocery.load(folder / name, quick, seed, size=48)
    splits = {split: easy_vqa.questions(folder / name, split) for split in ("train", "test")}
    chosen = set(list(dict.fromkeys(splits["train"]["picture"]))[: 60 if quick else PICTURES])
    splits["train"] = _some(splits["train"], [p in chosen for p in splits["train"]["picture"]])
    if quick:
        splits["test"] = {column: cells[:300] for column, cells in splits["test"].items()}
    for part in splits.values():
        part["asked"] = [asked(question) for question in part["question"]]
    answers = (folder / name / "answers.txt").read_text().split()
    return mk.data.table(
        splits["train"],
        easy_vqa.ROWS["film"]["modalities"],
        {"answer": mk.Label(classes=sorted(answers)), "asked": mk.Label()},
        valid=splits["test"],
        archive=folder / name / "images.zip",
        seed=seed,
    ).cache()


def _some(columns: dict[str, list], kept: list[bool]) -> dict[str, list]:
    return {
        name: [cell for cell, keep in zip(cells, kept, strict=True) if keep]
        for name, cells in columns.items()
    }


def last(folder: Path) -> dict[str, float]:
    """Returns the last line of a run's log."""
    with (folder / "log.csv").open(newline="") as file:
        line = list(csv.DictReader(file))[-1]
    return {name: float(value) for name, value in line.items() if value}


def main() -> None:
    """Runs every row and seed, writes result.json."""
    rows = {"default": ",".join(ROWS), "help": "which rows"}
    args = common.arguments(__doc__, rows=rows)
    results = common.Results("multi_task", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        name, way = ROWS[row]
        about, data = SETS[name], load(Path(args.data), name, args.quick, seed)
        mk.training.seed(seed)
        tasks = about["tasks"] if way in WAYS else (way,)
        data = data.with_targets(tasks)
        model = mk.assemble(
            data.modalities,
            about["encoders"],
            about["fusion"],
            {task: mk.heads.Classifier(data.targets[task].classes) for task in tasks},
            hidden_dim=about["hidden_dim"],
        )
        recipe = common.recipe(args, **about["recipe"])
        if way in WAYS:
            recipe["tasks"] = way
        common.fit(model, data, folder, recipe)
        held, split = data.valid(256), about["split"]
        values = {f"{task} accuracy/{split}": common.accuracy(model, held, task) for task in tasks}
        if way in WAYS:
            log = last(folder)
            values["cosine/train"] = log["_".join(sorted(tasks)) + "_cosine"]
            values |= {f"{task} weight/train": log[f"{task}_weight"] for task in tasks}
        return {"parameters": model.count_params(), "values": values}

    for row in args.rows.split(","):
        for seed in args.seeds:
            results.run(row, seed, lambda folder, row=row, seed=seed: measure(row, seed, folder))
    results.save()


if __name__ == "__main__":
    main()
