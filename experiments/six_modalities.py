"""Six modalities in one model and one `fit`: picture, caption, sound, clip, table and series.

    python -m experiments.six_modalities --out runs/six_modalities [--seeds 0,1,2] [--quick]

Generated scenes (`mmkeras.data.scenes`, one to three coloured shapes that move). Three heads say
what the leftmost object is and does: its shape, its colour, its direction. No modality tells all:
the picture, the caption and the sound do not show the direction, the table of objects (position,
size, colour of up to three, empty cells where there are fewer) lacks shape and direction, the
series (the noisy track of the leftmost object, 16 steps) holds the direction alone, and the clip,
which holds everything, is small and dim. Each is missing in 30 % of the rows, in training and
validation. Rows: every modality alone, all six, and the majority class; "all three" is the share
of scenes with all heads right. The best model of all six is exported and asked with six, with two
and without any modality.
"""

from pathlib import Path

import keras
import numpy as np

import mmkeras as mk
from experiments import common
from mmkeras.data import scenes

RECIPE = {"epochs": 12, "batch": 32, "rate": 2e-3, "weight_decay": 1e-2}
SIZE, MISSING = 32, 0.3
SCENES = {"train": 1600, "val": 400}
OBJECTS = range(1, 4)
SPECS = {
    "picture": mk.Image(size=SIZE),
    "caption": mk.Text(length=16),
    "sound": mk.Audio(rate_hz=scenes.RATE_HZ, seconds=0.6, num_bands=32),
    "clip": mk.Video(frames=4, size=16, fps=5),
    "objects": mk.Table(
        numeric=tuple(f"{name}_{i}" for i in OBJECTS for name in ("y", "x", "radius")),
        categorical=tuple(f"color_{i}" for i in OBJECTS),
    ),
    "track": mk.Series(steps=16, channels=2, rate_hz=25),
}
ENCODERS = {
    "picture": {"name": "cnn", "filters": (16, 32, 48)},
    "caption": {"name": "gru", "hidden_dim": 48},
    "sound": {"name": "cnn", "filters": (16, 32, 48)},
    "clip": {"name": "cnn3d", "filters": (8, 16, 32)},
    "objects": {"name": "mlp", "hidden_dim": 64},
    "track": {"name": "tcn", "filters": (24, 24, 24), "kernel_size": 3, "pool": 8},
}
HEADS = ("shape", "color", "direction")
ROWS = {"all_six": tuple(SPECS), **{f"{name}_only": (name,) for name in SPECS}}


def track(of: scenes.Object, rng: np.random.Generator) -> np.ndarray:
    """Returns (16, 2): y and x of an object in pixels, half a pixel a step, with noise."""
    step = np.array(scenes.DIRECTIONS[of.direction]) * 0.5
    return (of.y, of.x) + np.arange(16)[:, None] * step + rng.normal(0, 0.5, (16, 2))


def columns(count: int, seed: int) -> dict[str, list]:
    """Returns the columns of `count` scenes, 30 % of each modality missing."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list] = {name: [] for name in (*SPECS, *HEADS)}
    facts = SPECS["objects"].numeric + SPECS["objects"].categorical
    rows |= {name: [] for name in facts}
    for scene in scenes.generate(count, seed=seed, size=SIZE):
        first = scene.objects[0]
        values = {
            "picture": scene.image,
            "caption": scene.caption,
            "sound": scene.sound,
            "clip": scene.clip(frames=4)[:, ::2, ::2] // 4,
            "track": track(first, rng),
        }
        cells = {
            f"{name}_{i}": getattr(shown, name)
            for i, shown in enumerate(scene.objects, 1)
            for name in ("y", "x", "radius", "color")
        }
        gone = dict(zip(SPECS, rng.uniform(size=len(SPECS)) < MISSING, strict=True))
        for name, value in values.items():
            rows[name].append(None if gone[name] else value)
        for name in facts:
            rows[name].append(None if gone["objects"] else cells.get(name))
        for head in HEADS:
            rows[head].append(getattr(first, head))
    del rows["objects"]
    return rows


def table(parts: dict, names: tuple[str, ...], seed: int) -> mk.data.Data:
    """Returns the data of some modalities."""
    specs = {name: SPECS[name] for name in names}
    targets = {head: mk.Label() for head in HEADS}
    return mk.data.table(parts["train"], specs, targets, valid=parts["val"], seed=seed)


def accuracies(model: keras.Model, data: mk.data.Data) -> dict[str, float]:
    """Returns the share of validation rows that are right, per head and in all three."""
    right = []
    for x, y in data.valid(300):
        predicted = model.predict_on_batch(x)
        right.append([predicted[head].argmax(axis=1) == y[head].numpy() for head in HEADS])
    right = np.concatenate(right, axis=1)
    values = {f"{head} accuracy/val": float(r.mean()) for head, r in zip(HEADS, right, strict=True)}
    return {"all three/val": float(right.all(axis=0).mean()), **values}


def main() -> None:
    """Runs every row and seed, exports the best of all six and asks it, writes result.json."""
    args = common.arguments(__doc__, rows={"default": ",".join(ROWS), "help": "which rows"})
    counts = {split: count // 20 if args.quick else count for split, count in SCENES.items()}
    parts = {split: columns(count, seed) for seed, (split, count) in enumerate(counts.items(), 1)}
    results = common.Results("six_modalities", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed and evaluates its last epoch."""
        data = table(parts, ROWS[row], seed).cache()
        mk.training.seed(seed)
        heads = {head: mk.heads.Classifier(data.targets[head].classes) for head in HEADS}
        encoders = {name: ENCODERS[name] for name in data.modalities}
        model = mk.assemble(data.modalities, encoders, heads=heads, dropout=0.1)
        common.fit(model, data, folder, common.recipe(args, **RECIPE), samples=seed == 0)
        return {"parameters": model.count_params(), "values": accuracies(model, data)}

    best = results.sweep(args, measure, "all three/val", lambda row: row == "all_six")
    data = table(parts, tuple(SPECS), 0)
    for head in HEADS:
        results.majority(data, head, f"{head} accuracy/val")
    shown = np.arange(min(64, len(data.splits["valid"])))
    if common.export(best, data, args.out, "valid", shown) is not None:
        ask(args.out / "export" / "1", data, parts["val"])
    results.save()


def ask(folder: Path, data: mk.data.Data, rows: dict[str, list]) -> None:
    """Prints what the SavedModel says of the first scene that has everything, given parts of it."""
    held = [name for name in rows if name in (*SPECS, "color_1")]
    row = next(i for i in range(len(rows["track"])) if all(rows[n][i] is not None for n in held))
    raw = data.raw("valid", [row])
    print("Asked:", ", ".join(f"{head} {rows[head][row]}" for head in HEADS))
    for given in (tuple(SPECS), ("caption", "track"), ("sound",), ()):
        request = {name: raw[name] for name in given} or {"picture": [b""]}
        answer = mk.export.ask(folder, request)
        said = (
            f"{head} {answer[f'{head}_label'][0]} ({answer[f'{head}_scores'].max():.2f})"
            for head in HEADS
        )
        print(f"  with {', '.join(given) or 'nothing'}: {', '.join(said)}")


if __name__ == "__main__":
    main()
