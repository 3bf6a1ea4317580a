"""Spoken and written digits, degraded so that one modality is not enough (AV-MNIST's idea).

    python -m experiments.av_digits --data DIR --out runs/av_digits [--seeds 0,1,2] [--quick]

MNIST pictures paired with FSDD recordings of the same digit. Degradation, fixed and seeded:
pictures are rebuilt from the leading principal components of the training pictures up to 25 % of
the variance (4 components); recordings are cut or padded to one second and get white noise at
-5 dB SNR over the whole second, drawn per row (this reading of the recipe gives the reference
perceptron of the set its published accuracy on recordings; noise on the spoken part alone is
harder). Rows: picture only, recording only, six fusions, the majority digit; each fusion also with
one modality missing in half of the test rows, and the default fusion once more trained with
modality dropout at a rate of 0.3. Of these two the accuracy at rising rates of what is missing:
`missing.png` and `missing.csv` in the folder of the run. Chosen on the validation pairs.

DIR holds `pairs_{train,val,test}.csv` (mnist_index,wav,label), `fsdd.zip` and
`mnist/{train,t10k-first5000}-{images-idx3,labels-idx1}-ubyte.gz`; or it is filled with --download.
"""

import csv
import gzip
import io
import wave
import zipfile
from pathlib import Path

import keras
import numpy as np

import mmkeras as mk
from experiments import common, official

RECIPE = {"epochs": 2, "batch": 128, "rate": 2e-3, "weight_decay": 1e-2}
SNR_DB, VARIANCE = -5.0, 0.25
IMAGE = mk.Image(size=14, channels=1)  # four components leave nothing finer
AUDIO = mk.Audio(
    rate_hz=8000,
    seconds=1.0,
    num_bands=32,
    window_seconds=0.050,
    hop_seconds=0.032,
    augment={"spec_augment": {"time_masks": 1, "time_width": 4, "band_masks": 2, "band_width": 5}},
)
ENCODERS = {
    "image": {"name": "cnn", "filters": (16, 32, 48)},
    "audio": {"name": "cnn", "filters": (16, 32, 64), "dropout": 0.2},
}
BOTH = ("image", "audio")
FUSIONS = ("concatenation", "cross_attention", "film", "gated", "late_transformer", "weighted_sum")
ROWS = {
    "image_only": (("image",), "concatenation"),
    "audio_only": (("audio",), "concatenation"),
    **{fusion: (BOTH, fusion) for fusion in FUSIONS},
    "late_transformer_dropped": (BOTH, "late_transformer"),
}
DROP = {"late_transformer_dropped": 0.3}
CURVES = ("late_transformer", *DROP)
RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
MNIST = {"train": "train", "val": "train", "test": "t10k-first5000"}


def pictures(folder: Path, part: str) -> np.ndarray:
    """Returns uint8 (N, 28, 28) of an IDX file."""
    raw = gzip.decompress((folder / "mnist" / f"{part}-images-idx3-ubyte.gz").read_bytes())
    return np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)


def pairs(folder: Path, split: str) -> list[dict]:
    """Returns the rows of `pairs_{split}.csv`."""
    with (folder / f"pairs_{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def principal(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (784,) and the leading components (k, 784) up to VARIANCE."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    share = np.cumsum(values[::-1]) / values.sum()
    count = int(np.searchsorted(share, VARIANCE)) + 1  # the first that reach the share
    return mean, vectors[:, ::-1][:, :count].T


def blurred(images: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Returns uint8 pictures rebuilt from the components alone."""
    centred = images.reshape(len(images), -1) - mean
    rebuilt = centred @ components.T @ components + mean
    return np.clip(np.round(rebuilt), 0, 255).astype(np.uint8).reshape(images.shape)


def noisy(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns one second as a 16-bit wave with white noise at SNR_DB, its peak at 0.9."""
    window = np.zeros(AUDIO.num_samples)
    part = clean[: len(window)]
    window[: len(part)] = part
    power = float(np.mean(window**2))
    mixed = window + rng.normal(0.0, np.sqrt(power * 10 ** (-SNR_DB / 10)), len(window))
    return (np.round(mixed / np.abs(mixed).max() * 0.9 * 32768) / 32768).astype(np.float32)


def load(folder: Path, quick: bool) -> dict[str, dict[str, list]]:
    """Returns split -> columns image, audio, digit, all degraded."""
    with zipfile.ZipFile(folder / "fsdd.zip") as archive:
        clean = {}
        for name in archive.namelist():
            with wave.open(io.BytesIO(archive.read(name))) as file:
                frames = file.readframes(file.getnframes())
            clean[Path(name).name] = np.frombuffer(frames, "<i2") / 32768.0
    images = {part: pictures(folder, part) for part in set(MNIST.values())}
    mean, components = principal(images["train"][:55_000])
    splits = {}
    for number, (split, part) in enumerate(MNIST.items()):
        rows = pairs(folder, split)[: 2000 if quick else None]
        chosen = images[part][[int(r["mnist_index"]) for r in rows]]
        splits[split] = {
            "image": blurred(chosen, mean, components),
            "audio": [
                noisy(clean[r["wav"]], np.random.default_rng([number, i]))
                for i, r in enumerate(rows)
            ],
            "digit": [r["label"] for r in rows],
        }
    return splits


def table(splits: dict, names: tuple[str, ...], seed: int) -> mk.data.Data:
    """Returns the data of some modalities."""
    specs = {"image": IMAGE, "audio": AUDIO}
    return mk.data.table(
        splits["train"],
        {name: specs[name] for name in names},
        "digit",
        valid=splits["val"],
        test=splits["test"],
        seed=seed,
    )


def half_missing(data: mk.data.Data, name: str) -> mk.data.Data:
    """Returns the data with a modality absent in half of the test rows."""
    count = len(data.splits["test"])
    return data.without("test", name, np.random.default_rng(1).permutation(count)[: count // 2])


def curve(model: keras.Model, data: mk.data.Data, out: Path, quick: bool) -> dict[str, float]:
    """Returns the accuracies at rising missing rates, and writes them under `out`."""
    rates = RATES[::3] if quick else RATES
    rows = mk.training.missing_curve(model, data, rates=rates, batch_size=500, out=out)
    return {f"accuracy/test, {r['missing']} missing at {r['rate']:g}": r["accuracy"] for r in rows}


def evaluate(model: keras.Model, data: mk.data.Data) -> dict[str, float]:
    """Returns the accuracies of a model, with half of each modality missing too."""
    parts = {"val": data.valid(500), "test": data.test(500)}
    if len(data.modalities) > 1:
        for name in data.modalities:
            parts[f"test, half of {name} missing"] = half_missing(data, name).test(500)
    return {f"accuracy/{k}": common.accuracy(model, part, "digit") for k, part in parts.items()}


def main() -> None:
    """Runs every row and seed, exports the best fusion of the validation, writes result.json."""
    args = common.arguments(
        __doc__,
        rows={"default": ",".join(ROWS), "help": "which rows"},
        download={"action": "store_true", "help": "fetch the official files into --data first"},
    )
    folder = Path(args.data)
    if args.download:
        official.av_digits(folder)
    splits = load(folder, args.quick)
    results = common.Results("av_digits", args)

    def measure(row: str, seed: int, out: Path) -> dict:
        """Trains one row with one seed and evaluates its last epoch."""
        names, fusion = ROWS[row]
        data = table(splits, names, 0)
        mk.training.seed(seed)
        model = mk.assemble(
            data.modalities,
            {name: ENCODERS[name] for name in names},
            fusion,
            {"digit": mk.heads.Classifier(data.classes)},
            dropout=0.1,
        )
        recipe = common.recipe(args, **RECIPE)
        common.fit(model, data, out, recipe, samples=seed == 0, drop=DROP.get(row))
        values = evaluate(model, data)
        if row in CURVES:
            values |= curve(model, data, out, args.quick)
        return {"parameters": model.count_params(), "values": values}

    best = results.sweep(args, measure, "accuracy/val", lambda row: ROWS[row][0] == BOTH)
    data = table(splits, BOTH, 0)
    results.majority(data, "digit", "accuracy/test", "test")
    shown = np.linspace(0, len(data.splits["test"]) - 1, 200).astype(int)
    common.export(best, data, args.out, "test", shown)
    results.save()


if __name__ == "__main__":
    main()
