"""Train/serve skew: what tf.data gives a model against what an export gives it, on real files.

    python -m experiments.skew --data DIR --out runs/skew [--quick]

DIR holds the folders easy_vqa, esc10, avmnist and vqa_rad. Of each, every row of its test part
(vqa_rad has a `val` part, esc10 fold 4) goes through `data.batches` and, as the bytes of a request,
through `serving_default` of an export whose model returns its inputs, in a session of its own. Rows
with any bit that differs are counted, value or mask; there must be none. `--quick` takes every
twentieth row.
"""

import json
import tempfile
from pathlib import Path

import keras
import numpy as np

import mmkeras as mk
from experiments import av_digits, common, easy_vqa, esc10
from experiments.result import about, write
from mmkeras.export.answer import Loaded


def seeing(modalities: dict) -> keras.Model:
    """Returns a model whose outputs `<input>_seen` are its inputs."""
    inputs = {}
    for name, m in modalities.items():
        inputs[name] = keras.Input(m.shape, dtype=m.dtype, name=name)
        inputs[f"{name}_mask"] = keras.Input(m.mask_shape, dtype="bool", name=f"{name}_mask")
    seen = {f"{k}_seen": keras.layers.Identity(name=f"{k}_seen")(x) for k, x in inputs.items()}
    return keras.Model(inputs, seen)


def compared(data: mk.data.Data, split: str = "train", batch_size: int = 512) -> dict:
    """Returns the number of `rows` of a split, of `bad` items, and of rows that `differ`, by name.

    The names are those of the model's inputs; there are none where nothing differs.
    """
    counts = {"rows": 0, "differ": {}, "bad": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = mk.export.saved_model(seeing(data.modalities), data.modalities, Path(folder) / "1")
        with Loaded(path) as model:
            for x, *_ in data.batches(split, batch_size):
                size = len(next(iter(x.values())))
                rows = range(counts["rows"], counts["rows"] + size)
                served = model.ask(data.raw(split, rows))
                for name, value in x.items():
                    same = np.equal(value.numpy(), served[f"{name}_seen"])
                    wrong = int((~same.reshape(size, -1).all(axis=1)).sum())
                    if wrong:
                        counts["differ"][name] = counts["differ"].get(name, 0) + wrong
                counts["rows"] += size
                counts["bad"] += int(served["bad_input"].sum())
    return counts


def _easy_vqa(folder: Path, scratch: Path) -> mk.data.Data:
    test = easy_vqa.questions(folder, "test")
    specs = {"image": mk.Image(size=64), "question": mk.Text(length=12)}
    return mk.data.table(test, specs, archive={"image": folder / "images.zip"})


def _esc10(folder: Path, scratch: Path) -> mk.data.Data:
    sounds = esc10.convert(folder, scratch / "wav")
    test = esc10.folds(folder, sounds, quick=False)["4"]
    return mk.data.table(test, {"sound": esc10.audio("log_mel")})


def _avmnist(folder: Path, scratch: Path) -> mk.data.Data:
    rows = av_digits.pairs(folder, "test")
    pictures = av_digits.pictures(folder, av_digits.MNIST["test"])
    columns = {
        "image": [pictures[int(row["mnist_index"])] for row in rows],
        "audio": [f"recordings/{row['wav']}" for row in rows],
    }
    specs = {"image": mk.Image(size=28, channels=1), "audio": mk.Audio(rate_hz=8000)}
    return mk.data.table(columns, specs, archive={"audio": folder / "fsdd.zip"})


def _vqa_rad(folder: Path, scratch: Path) -> mk.data.Data:
    rows = json.loads((folder / "val.json").read_text())
    keys = {"image": "image_name", "question": "question"}
    columns = {name: [str(row[key]) for row in rows] for name, key in keys.items()}
    specs = {
        "image": mk.Image(size=128, fit="pad"),
        "question": mk.Text(length=20, tokenizer="characters"),
    }
    return mk.data.table(columns, specs, archive={"image": folder / "images.zip"})


SETS = {"easy_vqa": _easy_vqa, "esc10": _esc10, "avmnist": _avmnist, "vqa_rad": _vqa_rad}
"""Name -> (folder of the set, folder for converted files) -> its test rows, as "train"."""


def main() -> None:
    """Compares all, prints a line each, writes result.json."""
    args = common.arguments(__doc__)
    rows = []
    for name, read in SETS.items():
        data = read(Path(args.data) / name, args.out)
        if args.quick:
            data = data.take("train", np.arange(0, len(data.splits["train"]), 20))
        rows.append({"row": name, **compared(data)})
        print(rows[-1], flush=True)
    write(args.out / "result.json", {"name": "skew", **about("tensorflow", "keras"), "rows": rows})


if __name__ == "__main__":
    main()
