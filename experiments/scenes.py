"""Coloured shapes and captions: retrieval, zero-shot, and pairs that were never seen together.

    python -m experiments.scenes --out runs/scenes [--seeds 0,1,2] [--quick]

Of the 24 pairs of colour and shape, 6 are held out: each colour and shape is among the training
scenes, those pairs are in none. `seen` are other scenes without, `unseen` scenes with a held-out
pair. Metrics: recall between scenes and captions (of one to three objects; scenes of the same
caption belong together), and the pair (of 24) of scenes with one object, zero-shot from "a red
circle". Rows: CLIP and SigLIP with a transformer over the caption, and CLIP with a bag of its
words, which cannot tell whose colour is whose.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common
from mmkeras.data import scenes

RECIPE = {"epochs": 30, "batch": 128, "rate": 2e-3, "weight_decay": 1e-2, "jit": False}
COUNTS = {"train": 4000, "seen": 500, "unseen": 500, "seen_one": 480, "unseen_one": 240}
SIZE = 40
PAIRS = [(color, shape) for color in scenes.COLORS for shape in scenes.SHAPES]
HELD_OUT = [pair for i, pair in enumerate(PAIRS) if (i // 4 + i) % 4 == 0]  # one of each colour
SPECS = {
    "image": mk.Image(size=SIZE, augment={"translate": {"fraction": 0.06}}),
    "text": mk.Text(length=14),
}
IMAGE = {"name": "resnet", "filters": (24, 48, 96)}
TRANSFORMER = {"name": "transformer", "dropout": 0.0}
ROWS = {
    "info_nce": (mk.models.clip, TRANSFORMER),
    "siglip": (mk.models.siglip, TRANSFORMER),
    "info_nce_bag_of_words": (mk.models.clip, "bow"),
}


def held_out(scene: scenes.Scene) -> bool:
    """Whether a scene shows a pair that training never does."""
    return any((o.color, o.shape) in HELD_OUT for o in scene.objects)


def load(quick: bool) -> dict[str, dict[str, list]]:
    """Returns part -> columns image, text, and match (the caption); a sixteenth when quick."""
    wanted: dict[str, Callable] = {
        "train": lambda s: not held_out(s),
        "seen": lambda s: not held_out(s),
        "unseen": held_out,
        "seen_one": lambda s: not held_out(s),
        "unseen_one": held_out,
    }
    parts = {}
    for seed, (part, fits) in enumerate(wanted.items()):
        count, most = COUNTS[part] // (16 if quick else 1), 1 if part.endswith("one") else 3
        made = scenes.generate(6 * count, seed=seed, size=SIZE, max_objects=most)
        chosen = [scene for scene in made if fits(scene)][:count]
        captions = [scene.caption for scene in chosen]
        parts[part] = {"image": [s.image for s in chosen], "text": captions, "match": captions}
    return parts


def table(parts: dict, part: str, seed: int) -> mk.data.Data:
    """Returns the training scenes, and a part as validation rows."""
    captions = sorted({caption for columns in parts.values() for caption in columns["text"]})
    target = {"match": mk.Label(classes=tuple(captions))}
    return mk.data.table(parts["train"], SPECS, target, valid=parts[part], seed=seed)


def measured(model: mk.Model, parts: dict, seed: int) -> dict[str, float]:
    """Returns the figures on all parts."""
    values = {}
    names = [f"{color} {shape}" for color, shape in PAIRS]
    for part in parts:
        if part == "train":
            continue
        data = table(parts, part, seed)
        if part.endswith("_one"):
            classes = {name: [name] for name in names}
            zero = mk.evaluation.zero_shot(model, data.modalities, classes, ["a {}"], head="pair")
            truth = np.array([names.index(caption[2:]) for caption in parts[part]["text"]])
            x = next(iter(data.valid(len(truth))))[0]
            accuracy = mk.evaluation.accuracy(zero, [(x, {"pair": truth})], "pair")
            values[f"pair accuracy/{part.removesuffix('_one')}"] = accuracy
            continue
        pairs = mk.evaluation.cross_retrieval(model, data.valid(256), target="match")
        for (a, b), figures in pairs.items():
            for name in ("recall_at_1", "recall_at_5", "mrr"):
                values[f"{a} to {b} {name}/{part}"] = figures[name]
    return values


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(__doc__, rows={"default": ",".join(ROWS), "help": "which rows"})
    parts = load(args.quick)
    results = common.Results("scenes", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        data = table(parts, "seen", seed)
        mk.training.seed(seed)
        make, text = ROWS[row]
        model = make(data.modalities, {"image": IMAGE, "text": text}, dim=64)
        common.fit(model, data, folder, common.recipe(args, **RECIPE))
        return {"parameters": model.count_params(), "values": measured(model, parts, seed)}

    best = results.sweep(args, measure, "image to text recall_at_1/seen")
    common.export(best, table(parts, "seen", 0), args.out, "valid", np.arange(16))
    for part in ("seen", "unseen"):
        results.add("chance", f"pair accuracy/{part}", 1 / len(PAIRS), 0)
    results.save()


if __name__ == "__main__":
    main()
