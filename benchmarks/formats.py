"""Which encoders and fusions convert to ONNX and TFLite, by really trying every one.

Command: python -m benchmarks.formats --out DIR [--quick] [--only image]. Needs mmkeras[onnx,lite].

All encoders of a kind are put into one model, all fusions into another; what does not convert is
found by halving. Converted files run in ONNX Runtime and LiteRT, 3 samples together or (where a
layer is recurrent, in LiteRT) one by one, on rows with absent modalities, against Keras.
`result.json` and `formats.md` hold the table: the largest absolute difference, or the reason. Not a
comparison of speed: a row's `ours` is that difference.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common
from mmkeras.core import files

ENDINGS = {"ONNX": ".onnx", "TFLite": ".tflite"}
SMALL = {
    "image": {"cnn": {"filters": (8,)}, "vit": {"num_layers": 1}},
    "series": {"patchtst": {"patch_length": 4, "stride": 2}},
    "several": {"shared": {"encoder": {"name": "mlp"}}},
}
QUICK = {"image": ("cnn",), "vector": ("mlp", "lstm"), "fusion": ("gated", "mult")}


def main(argv: list[str] | None = None) -> dict:
    """Tries all."""
    from mmkeras.encoders import ENCODERS
    from mmkeras.fusion import FUSIONS

    args = common.arguments(__doc__, argv)
    results = common.Results("formats", args)
    groups = {**{kind: tuple(table) for kind, table in ENCODERS.items()}, "fusion": tuple(FUSIONS)}
    groups = QUICK if args.quick else groups
    for kind, names in groups.items():
        if args.only not in kind:
            continue
        build = fusions if kind == "fusion" else lambda names, kind=kind: encoders(kind, names)
        for form in ENDINGS:
            for name, outcome in tried(build, names, form):
                results.add(_row(f"{kind}, {name}: {form}", outcome))
    files.write_text(args.out / "formats.md", table(results.rows))
    return results.save()


def _row(title: str, outcome: float | str) -> dict:
    failed = isinstance(outcome, str)
    row = common.row(title, [0.0 if failed else outcome], [], "difference", None)
    return {**row, "ours": None, "note": outcome} if failed else row


def tried(
    build: Callable[[Sequence[str]], tuple], names: Sequence[str], form: str
) -> Iterator[tuple[str, float | str]]:
    """Yields (name, largest difference or reason); halves the names where something fails.

    Args:
        build: names -> (model, x): the model's outputs have the names.
        names: of what is tried.
        form: key of `ENDINGS`.
    """
    try:
        found = differences(*build(names), form)
        yield from ((name, found[name]) for name in names)
    except Exception as error:  # the converters raise all kinds
        if len(names) == 1:
            yield names[0], f"{type(error).__name__}: {str(error)[:200]}".replace("\n", " ")
            return
        middle = len(names) // 2
        for part in (names[:middle], names[middle:]):
            yield from tried(build, part, form)


def differences(model: Any, x: dict, form: str) -> dict[str, float]:
    """Converts a model and returns by output the largest difference from Keras."""
    from mmkeras.export import tensors, to_onnx, to_tflite

    convert = {"ONNX": to_onnx.convert, "TFLite": to_tflite.convert}[form]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"model{ENDINGS[form]}")
        with _silent():
            convert(model, path)
        return tensors.check_tensors(model, path, x)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Swallows what native code prints: a converter that fails prints its whole program."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def specs() -> dict:
    """Returns a small spec of every kind."""
    import mmkeras as mk

    words = ("[PAD]", "[UNK]", "a", "b", "c")
    return {
        "image": mk.Image(size=32),
        "text": mk.Text(length=7, vocabulary=words),
        "audio": mk.Audio(rate_hz=4000, seconds=0.5, num_bands=16),
        "vector": mk.Vector(size=3, steps=5, normalize=False),
        "table": mk.Table(
            numeric=("x",),
            categorical=("c",),
            mean=(0.0,),
            scale=(1.0,),
            vocabularies=(("a", "b"),),
        ),
        "series": mk.Series(steps=16, channels=2, rate_hz=10, normalize=False),
        "video": mk.Video(frames=4, size=16, fps=5),
        "several": mk.Several(mk.Vector(size=3, normalize=False), 3),
    }


def numbers(modality: Any, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Returns decoded values and masks; of the last sample nothing is there."""
    rng = np.random.default_rng(0)
    shape = (count, *modality.shape)
    if modality.dtype == "uint8":
        value = rng.integers(0, 256, shape).astype("uint8")
    elif modality.dtype == "int32":
        value = rng.integers(2, 5, shape).astype("int32")
    else:
        value = rng.normal(size=shape).astype(modality.dtype)
    mask = np.ones((count, *modality.mask_shape), "bool")
    mask[-1] = False
    return value, mask


def encoders(kind: str, names: Sequence[str]) -> tuple[Any, dict]:
    """Returns a model with the mean token of each encoder as output, and samples."""
    import keras

    from mmkeras import encoders as family
    from mmkeras.layers import masked_mean

    modality = specs()[kind]
    inputs = {
        "x": keras.Input(modality.shape, dtype=modality.dtype, name="x"),
        "x_mask": keras.Input(modality.mask_shape, dtype="bool", name="x_mask"),
    }
    outputs = {}
    for name in names:
        made = {"name": name, **SMALL.get(kind, {}).get(name, {})}
        encoder = family.get(made, f"x_{name}", modality)
        encoded = encoder({f"x_{name}": inputs["x"], f"x_{name}_mask": inputs["x_mask"]})
        outputs[name] = masked_mean(encoded["tokens"], encoded["mask"])
    x, mask = numbers(modality)
    return keras.Model(inputs, outputs), {"x": x, "x_mask": mask}


def fusions(names: Sequence[str]) -> tuple[Any, dict]:
    """Returns a model with the pooled vector of each fusion as output, and samples."""
    import keras

    from mmkeras.fusion import FUSIONS

    inputs, x = {}, {}
    for number, m in enumerate(("a", "b")):
        inputs[m] = keras.Input((4, 8), name=m)
        inputs[f"{m}_mask"] = keras.Input((4,), dtype="bool", name=f"{m}_mask")
        x[m] = np.random.default_rng(number).normal(size=(3, 4, 8)).astype("float32")
        x[f"{m}_mask"] = np.arange(3)[:, None] != np.full((1, 4), number)
    encoded = {m: {"tokens": inputs[m], "mask": inputs[f"{m}_mask"]} for m in ("a", "b")}
    outputs = {n: FUSIONS[n](("a", "b"), hidden_dim=8)(encoded)["pooled"] for n in names}
    return keras.Model(inputs, outputs), x


def table(rows: Sequence[dict]) -> str:
    """Returns the rows as markdown, a line per encoder or fusion."""
    held: dict[str, dict[str, str]] = {}
    for row in rows:
        name, form = row["row"].split(": ")
        held.setdefault(name, {})[form] = row.get("note") or f"{row['ours']:.0e}"
    lines = [f"| | {' | '.join(ENDINGS)} |", "|---|" + "---|" * len(ENDINGS)]
    lines += [f"| {n} | {' | '.join(c.get(f, '-') for f in ENDINGS)} |" for n, c in held.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
