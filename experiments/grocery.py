"""Photos of groceries: 81 fine and 43 coarse classes, two heads on one encoder.

    python -m experiments.grocery --data DIR --out runs/grocery [--seeds 0,1,2] [--quick]

Klasson et al. 2019, official training and validation pictures (60 of the classes are among the
latter), from random weights. Rows: three encoders of about the same cost, and the majority class.
Nothing is chosen on the validation pictures but sizes and learning rate, by seed 0.

DIR holds `labels.csv` (file, class_id, coarse_id, split), `classes.csv` (class_id, class_name,
coarse_id, coarse_name) and `images_train_val.zip`, the pictures by these files.
"""

import csv
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common

RECIPE = {"epochs": 40, "batch": 32, "rate": 2e-3, "weight_decay": 5e-2}
IMAGE = mk.Image(
    size=64,
    augment={
        "random_resized_crop": {"scale": (0.3, 1.0)},
        "flip": {},
        "color_jitter": {"hue": 0.02, "saturation": 0.2},
    },
)
ENCODERS = {
    "resnet": {"name": "resnet", "filters": (24, 48, 96), "dropout": 0.1},
    "vit": {"name": "vit", "dropout": 0.1},
    "cnn": {"name": "cnn", "filters": (24, 48, 96), "dropout": 0.1},
}


def load(folder: Path, quick: bool, seed: int, *, size: int = 64) -> mk.data.Data:
    """Returns the official splits, pictures of `size`; every eighth picture when quick."""
    tables = {}
    for name in ("labels", "classes"):
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
    names = {c["class_id"]: (c["class_name"], c["coarse_name"]) for c in tables["classes"]}
    splits: dict[str, dict[str, list]] = {}
    for row in tables["labels"][:: 8 if quick else 1]:
        part = splits.setdefault(row["split"], {"image": [], "fine": [], "coarse": []})
        fine, coarse = names[row["class_id"]]
        for column, cell in zip(part, (row["file"], fine, coarse), strict=True):
            part[column].append(cell)
    fine, coarse = zip(*names.values(), strict=True)
    return mk.data.table(
        splits["train"],
        {"image": IMAGE.replace(size=size)},
        {
            "fine": mk.Label(classes=fine),
            "coarse": mk.Label(classes=tuple(dict.fromkeys(coarse))),
        },
        valid=splits["val"],
        archive=folder / "images_train_val.zip",
        seed=seed,
    )


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(__doc__, rows={"default": ",".join(ENCODERS), "help": "which rows"})
    results = common.Results("grocery", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        data = load(Path(args.data), args.quick, seed)
        mk.training.seed(seed)
        heads = {n: mk.heads.Classifier(t.classes, dropout=0.1) for n, t in data.targets.items()}
        encoders = {"image": ENCODERS[row]}
        model = mk.assemble(
            data.modalities, encoders, "concatenation", heads, hidden_dim=128, dropout=0.1
        )
        common.fit(model, data, folder, common.recipe(args, **RECIPE), samples=seed == 0)
        valid = data.valid(148)
        values = {f"{head} accuracy/val": common.accuracy(model, valid, head) for head in heads}
        return {"parameters": model.count_params(), "values": values}

    best = results.sweep(args, measure, "fine accuracy/val")
    data = load(Path(args.data), args.quick, 0)
    for head in data.targets:
        results.majority(data, head, f"{head} accuracy/val")
    common.export(best, data, args.out, "valid", np.arange(32))
    results.save()


if __name__ == "__main__":
    main()
