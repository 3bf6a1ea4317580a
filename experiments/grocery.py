"""Photos of groceries: 81 fine and 43 coarse classes, two heads on one encoder.

    python -m experiments.grocery --data DIR --out runs/grocery [--seeds 0,1,2] [--quick]

Klasson et al. 2019, official training and validation pictures (59 of the classes are among the
latter), from random weights. Rows: three encoders of about the same cost, and the majority class.
Nothing is chosen on the validation pictures but sizes and learning rate, by seed 0.

DIR holds `labels.csv` (file, class_id, coarse_id, split), `classes.csv` (class_id, class_name,
coarse_id, coarse_name) and `images_train_val.zip`, the pictures by these files.
"""

import csv
from pathlib import Path

import keras
import numpy as np

import mmkeras as mk
from experiments import common

EPOCHS, BATCH, RATE = 40, 32, 2e-3
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


def load(folder: Path, quick: bool, seed: int) -> mk.data.Data:
    """Returns the official splits; every eighth picture when quick."""
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
        {"image": IMAGE},
        {
            "fine": mk.Label(classes=fine),
            "coarse": mk.Label(classes=tuple(dict.fromkeys(coarse))),
        },
        valid=splits["val"],
        archive=folder / "images_train_val.zip",
        seed=seed,
    )


def measure(data: mk.data.Data, encoder: dict, folder: Path, seed: int, epochs: int) -> dict:
    """Trains one row with one seed; the last epoch's model is the result."""
    mk.training.seed(seed)
    heads = {n: mk.heads.Classifier(t.classes, dropout=0.1) for n, t in data.targets.items()}
    model = mk.assemble(
        data.modalities, {"image": encoder}, "concatenation", heads, hidden_dim=128, dropout=0.1
    )
    common.fit(
        model,
        data,
        folder,
        epochs=epochs,
        batch=BATCH,
        rate=RATE,
        weight_decay=5e-2,
        samples=seed == 0,
    )
    values = {
        f"{head} accuracy/val": common.accuracy(model, data.valid(148), head) for head in heads
    }
    return {"parameters": model.count_params(), "values": values}


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(__doc__, rows={"default": ",".join(ENCODERS), "help": "which rows"})
    data = load(Path(args.data), args.quick, 0)
    results = common.Results("grocery", args)
    best = (-1.0, None)
    for name in args.rows.split(","):
        for seed in args.seeds:
            part = load(Path(args.data), args.quick, seed)

            def run(out: Path, name=name, seed=seed, part=part) -> dict:
                return measure(part, ENCODERS[name], out, seed, 1 if args.quick else EPOCHS)

            score = results.run(name, seed, run)["values"]["fine accuracy/val"]
            if score > best[0]:
                best = (score, f"{name}-{seed}")
    for head in data.targets:
        truth = {split: held.truth[head] for split, held in data.splits.items()}
        share = common.majority(truth["valid"], truth["train"])
        results.add("majority", f"{head} accuracy/val", share, 0)
    model = keras.models.load_model(results.parts / best[1] / "last.keras")
    common.export(model, data, args.out, "valid", np.arange(32))
    results.save()


if __name__ == "__main__":
    main()
