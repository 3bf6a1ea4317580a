"""Environmental sounds: ten classes of five-second clips, one fold left out at a time.

    python -m experiments.esc10 --data DIR --out runs/esc10 [--seeds 0,1,2] [--quick]

ESC-10 (Piczak 2015). The clips are converted once, from Ogg Vorbis at 44.1 kHz to 16-bit WAV at
22.05 kHz under OUT/wav (needs the extra `sound`). Every row is trained on all folds but one and
evaluated on that one after its last epoch, for every fold; "mean" is that of the folds. Rows:
log-mel and MFCC, each with a convolutional and a convolutional-recurrent encoder, and the
majority class. Sizes and learning rate were chosen on fold 4, the number of epochs and the moving
average of the weights on folds 1 and 3, with seed 0.

DIR holds `meta.csv` (file, fold, class_name) and `clips_fold*.zip`, the clips by these names.
"""

import csv
import io
import wave
import zipfile
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common

RECIPE = {"epochs": 20, "batch": 16, "rate": 3e-3, "weight_decay": 1e-2, "ema": 0.98}
PASSES = 6  # over the training clips, each time augmented anew, in an epoch
RATE_HZ, SECONDS = 22_050, 5.0
AUGMENT = {
    "time_shift": {"seconds": 0.5},
    "spec_augment": {"time_masks": 2, "time_width": 12, "band_masks": 2, "band_width": 6},
}
MIX = {"mixup": {"alpha": 0.2}}
ENCODERS = {
    "cnn": {"name": "cnn", "filters": (16, 32, 64, 64), "dropout": 0.3},
    "crnn": {"name": "crnn", "filters": (16, 32, 64), "hidden_dim": 32, "dropout": 0.3},
}
ROWS = {f"{f}_{name}": (f, name) for f in ("log_mel", "mfcc") for name in ENCODERS}


def audio(features: str) -> mk.Audio:
    """Returns the spec of a row."""
    return mk.Audio(
        rate_hz=RATE_HZ,
        seconds=SECONDS,
        features=features,
        num_bands=48,
        num_coefficients=24,
        window_seconds=0.046,
        hop_seconds=0.035,
        augment=AUGMENT,
    )


def halved(samples: np.ndarray) -> np.ndarray:
    """Returns every second sample of what a half-band filter (63 taps, Hann-windowed) leaves."""
    n = np.arange(-31, 32)
    taps = np.sinc(n * 0.47) * np.hanning(65)[1:-1]
    return np.convolve(samples, taps / taps.sum(), "same")[::2]


def convert(folder: Path, out: Path) -> Path:
    """Writes the clips as WAV, each whole or not at all; those that are there stay."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("clips_fold*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                target = out / f"{Path(name).stem}.wav"
                if name.endswith(".ogg") and not target.exists():
                    _write(target, halved(_decoded(archive.read(name))))
    return out


def _decoded(encoded: bytes) -> np.ndarray:
    """Samples of an Ogg Vorbis clip at twice the declared rate."""
    try:
        import soundfile
    except ImportError as error:
        raise ImportError(
            "Ogg Vorbis is decoded by soundfile: pip install 'mmkeras[sound]'."
        ) from error
    samples, rate = soundfile.read(io.BytesIO(encoded))
    if rate != 2 * RATE_HZ or samples.ndim != 1:
        raise ValueError(
            f"A clip must be mono at {2 * RATE_HZ} Hz. Received: {rate} Hz, shape {samples.shape}."
        )
    return samples


def _write(target: Path, samples: np.ndarray) -> None:
    temporary = target.with_suffix(".tmp")
    with wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    temporary.replace(target)


def folds(folder: Path, wavs: Path, quick: bool) -> dict[str, dict[str, list]]:
    """Returns fold -> columns sound (paths), label; every fourth clip when quick."""
    with (folder / "meta.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:: 4 if quick else 1]
    parts: dict[str, dict[str, list]] = {}
    for row in rows:
        part = parts.setdefault(row["fold"], {"sound": [], "label": []})
        part["sound"].append(str(wavs / f"{Path(row['file']).stem}.wav"))
        part["label"].append(row["class_name"])
    return dict(sorted(parts.items()))


def without(parts: dict, held_out: str, features: str, seed: int) -> mk.data.Data:
    """Returns the data: all folds but one to train on, that one to validate on."""
    train: dict[str, list] = {"sound": [], "label": []}
    for fold, part in parts.items():
        for name in train:
            train[name] += part[name] * PASSES if fold != held_out else []
    data = mk.data.table(
        train, {"sound": audio(features)}, "label", valid=parts[held_out], seed=seed
    )
    return data.cache()


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(
        __doc__,
        rows={"default": ",".join(ROWS), "help": "which rows"},
        tune={"action": "store_true", "help": "leave out the last fold alone"},
    )
    parts = folds(Path(args.data), convert(Path(args.data), args.out / "wav"), args.quick)
    chosen = list(parts)[-1:] if args.quick or args.tune else list(parts)
    results = common.Results("esc10", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed, once for every fold that is left out."""
        features, encoder = ROWS[row]
        values = {}
        for fold in chosen:
            data = without(parts, fold, features, seed)
            mk.training.seed(seed)
            model = mk.assemble(
                data.modalities,
                {"sound": ENCODERS[encoder]},
                "concatenation",
                {"label": mk.heads.Classifier(data.classes)},
                dropout=0.1,
            )
            common.fit(model, data, folder / f"fold{fold}", common.recipe(args, **RECIPE), mix=MIX)
            values[f"accuracy/fold {fold}"] = common.accuracy(model, data.valid(80), "label")
        values["accuracy/mean"] = float(np.mean(list(values.values())))
        return {"parameters": model.count_params(), "values": values}

    best = results.sweep(args, measure, "accuracy/mean")
    row, seed = best.name.rsplit("-", 1)
    data = without(parts, chosen[-1], ROWS[row][0], int(seed))
    results.majority(data, "label", "accuracy/mean")
    shown = np.arange(min(16, len(data.splits["valid"])))
    common.export(best / f"fold{chosen[-1]}", data, args.out, "valid", shown)
    results.save()


if __name__ == "__main__":
    main()
