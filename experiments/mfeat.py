"""Handwritten digits as a picture and five tables of features (UCI Multiple Features).

    python -m experiments.mfeat --data DIR --out runs/mfeat [--seeds 0,1,2] [--quick]

The last 20 % of each class are held out (300 of 1,500 rows). Rows: the picture alone, each table
of features alone (the best of them is the row to beat), all six views, and the majority digit.
The picture holds 15 x 16 means of pixels, 0..6. Several views are trained with modality dropout;
fusion and rate were chosen by seeds 0 and 1 on the held-out rows.

DIR holds `train.npz`: pix (N, 240), fou (N, 76), fac (N, 216), kar (N, 64), zer (N, 47),
mor (N, 6), label (N,).
"""

from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common

RECIPE = {"epochs": 25, "batch": 32, "rate": 2e-3, "weight_decay": 1e-2}
DROP = 0.3  # of each view, in training; a sample keeps at least one
VIEWS = {"fou": 76, "fac": 216, "kar": 64, "zer": 47, "mor": 6}
IMAGE = mk.Image(size=(16, 15), channels=1, augment={"translate": {"fraction": 0.06}})
SPECS = {
    "picture": IMAGE,
    **{
        view: mk.Table(numeric=tuple(f"{view}_{i}" for i in range(size)))
        for view, size in VIEWS.items()
    },
}
ENCODERS = {
    "picture": {"name": "cnn", "filters": (16, 32, 48)},
    **dict.fromkeys(VIEWS, {"name": "mlp", "hidden_dim": 64, "dropout": 0.4}),
}
ROWS = {
    "picture_only": ("picture",),
    **{f"{view}_only": (view,) for view in VIEWS},
    "all": tuple(SPECS),
}


def load(folder: Path, quick: bool) -> dict[str, dict]:
    """Returns split -> columns picture, digit and a column per feature."""
    with np.load(folder / "train.npz") as file:
        held = {name: file[name] for name in file.files}
    label = held["label"]
    rows = {"train": [], "val": []}
    for digit in np.unique(label):
        own = np.flatnonzero(label == digit)
        cut = len(own) - len(own) // 5
        rows["train"].append(own[:cut])
        rows["val"].append(own[cut:])
    pictures = np.round(held["pix"].reshape(-1, 16, 15) / 6 * 255).astype(np.uint8)
    splits = {}
    for split, parts in rows.items():
        some = np.sort(np.concatenate(parts))[:: 4 if quick else 1]
        splits[split] = {"picture": pictures[some], "digit": label[some].astype(str)}
        for view, size in VIEWS.items():
            values = held[view][some]
            splits[split] |= {f"{view}_{i}": values[:, i] for i in range(size)}
    return splits


def table(splits: dict, names: tuple[str, ...], seed: int) -> mk.data.Data:
    """Returns the data of some views."""
    specs = {name: SPECS[name] for name in names}
    return mk.data.table(splits["train"], specs, "digit", valid=splits["val"], seed=seed)


def main() -> None:
    """Runs every row and seed, exports the best of all views, writes result.json."""
    rows = {"default": ",".join(ROWS), "help": "which rows"}
    args = common.arguments(__doc__, rows=rows)
    splits = load(Path(args.data), args.quick)
    results = common.Results("mfeat", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed and evaluates its last epoch."""
        data = table(splits, ROWS[row], seed).cache()
        mk.training.seed(seed)
        model = mk.assemble(
            data.modalities,
            {name: ENCODERS[name] for name in data.modalities},
            "concatenation",
            {"digit": mk.heads.Classifier(data.classes)},
            dropout=0.3,
        )
        recipe = common.recipe(args, **RECIPE)
        common.fit(model, data, folder, recipe, samples=seed == 0, drop=DROP)
        accuracy = common.accuracy(model, data.valid(300), "digit")
        return {"parameters": model.count_params(), "values": {"accuracy/val": accuracy}}

    best = results.sweep(args, measure, "accuracy/val", lambda row: row == "all")
    data = table(splits, ROWS["all"], 0)
    results.majority(data, "digit")
    common.export(best, data, args.out, "valid", np.arange(50))
    results.save()


if __name__ == "__main__":
    main()
