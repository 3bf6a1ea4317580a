"""Spoken digits by lips and by a sound in noise (talker s1 of GRID, 694 + 100 clips).

    python -m experiments.grid_digits --data DIR --out runs/grid_digits [--seeds 0,1,2] [--snr -10]

The sound gets white noise at `--snr` decibels over the whole 0.64 s, a training clip in eight
versions, a clip of val in one. Rows: sound only, lips only by a 3-D CNN and by an R(2+1)D, both by
concatenation and by the late transformer (lips by the 3-D CNN), the majority digit. Sizes, rate and
augmentation were chosen by the first of the lips' rows, the number of versions and of its epochs
(it learns slowly) by the sound alone, all on val, as is the fusion to export. To be read beside the
logistic regressions of the set's README (at -10 dB: sound 65.0, both concatenated 85.0; lips 98.0):
the lips alone are the row that a fusion must not lose to.

DIR holds `train_val.npz`: `lips` uint8 (N, 16, 36, 48), `audio` int16 (N, 10240), `label`, `split`.
"""

from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common

RECIPE = {"epochs": 3, "batch": 16, "rate": 1e-3, "weight_decay": 1e-2}
SLOW = {"audio_only": {"epochs": 8}}
SNR_DB, COPIES = -10.0, 8
VIDEO = mk.Video(
    frames=16, size=(24, 32), channels=1, fps=25, augment={"translate": {"fraction": 0.035}}
)
AUDIO = mk.Audio(
    seconds=0.64,
    num_bands=32,
    window_seconds=0.032,
    hop_seconds=0.016,
    augment={"spec_augment": {"time_masks": 1, "time_width": 4, "band_masks": 2, "band_width": 5}},
)
SOUND = {"name": "cnn", "filters": (16, 32, 64), "dropout": 0.2}
STAGES = {  # one talker, one place: what moves is what tells the digits apart
    "filters": (12, 24, 48, 64),
    "depths": (1, 1, 1, 1),
    "dropout": 0.2,
    "center": True,
}
CNN3D, R2PLUS1D = {"name": "cnn3d", **STAGES}, {"name": "r2plus1d", **STAGES}
ROWS = {
    "audio_only": ({"audio": SOUND}, "concatenation"),
    "lips_only_cnn3d": ({"lips": CNN3D}, "concatenation"),
    "lips_only_r2plus1d": ({"lips": R2PLUS1D}, "concatenation"),
    "concatenation": ({"lips": CNN3D, "audio": SOUND}, "concatenation"),
    "late_transformer": ({"lips": CNN3D, "audio": SOUND}, "late_transformer"),
}


def noisy(clean: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a wave with white noise at `snr_db` over all of it, its peak at 0.9, 16 bits deep."""
    power = float(np.mean(clean**2))
    mixed = clean + rng.normal(0.0, np.sqrt(power * 10 ** (-snr_db / 10)), len(clean))
    return (np.round(mixed / np.abs(mixed).max() * 0.9 * 32768) / 32768).astype(np.float32)


def load(folder: Path, snr_db: float, quick: bool) -> dict[str, dict[str, list]]:
    """Returns split -> columns lips, audio, digit."""
    with np.load(folder / "train_val.npz") as held:
        arrays = {name: held[name] for name in ("lips", "audio", "label", "split")}
    splits = {}
    for number, (split, copies) in enumerate({"train": COPIES, "val": 1}.items()):
        rows = np.flatnonzero(arrays["split"] == split)[: 64 // copies if quick else None]
        clean = arrays["audio"][rows] / 32768.0
        splits[split] = {
            "lips": list(arrays["lips"][rows]) * copies,
            "audio": [
                noisy(wave, snr_db, np.random.default_rng([number, i, copy]))
                for copy in range(copies)
                for i, wave in enumerate(clean)
            ],
            "digit": [str(label) for label in arrays["label"][rows]] * copies,
        }
    return splits


def table(splits: dict, names: tuple[str, ...]) -> mk.data.Data:
    """Returns the data of some modalities."""
    specs = {"lips": VIDEO, "audio": AUDIO}
    return mk.data.table(
        splits["train"],
        {name: specs[name] for name in names},
        {"digit": mk.Label(classes=[str(digit) for digit in range(10)])},
        valid=splits["val"],
    )


def main() -> None:
    """Runs every row and seed, exports the best fusion, writes result.json."""
    args = common.arguments(
        __doc__,
        rows={"default": ",".join(ROWS), "help": "which rows"},
        snr={"default": SNR_DB, "type": float, "help": "of the sound, in dB (default: -10)"},
    )
    splits = load(Path(args.data), args.snr, args.quick)
    results = common.Results("grid_digits", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed and evaluates its last epoch."""
        encoders, fusion = ROWS[row]
        data = table(splits, tuple(encoders))
        mk.training.seed(seed)
        heads = {"digit": mk.heads.Classifier(data.classes)}
        model = mk.assemble(data.modalities, encoders, fusion, heads, dropout=0.1)
        recipe = common.recipe(args, **{**RECIPE, **SLOW.get(row, {})})
        common.fit(model, data, folder, recipe, samples=seed == 0)
        accuracy = common.accuracy(model, data.valid(100), "digit")
        return {"parameters": model.count_params(), "values": {"accuracy/val": accuracy}}

    best = results.sweep(args, measure, "accuracy/val", lambda row: len(ROWS[row][0]) > 1)
    data = table(splits, ("lips", "audio"))
    results.majority(data, "digit")
    common.export(best, data, args.out, "valid", np.arange(min(64, len(data.splits["valid"]))))
    results.save()


if __name__ == "__main__":
    main()
