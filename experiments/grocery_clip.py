"""Photos of groceries and product texts: retrieval over 81 texts and icons, classes left out.

    python -m experiments.grocery_clip --data DIR --out runs/grocery_clip [--seeds 0,1,2] [--quick]

A tower for pictures and one for texts ("name, kind: description"), from random weights. Photos of
one class are positives of each other, by its label. The icons of the training classes are further
pictures of theirs. 10 of the 60 classes of the validation pictures are left out of training:
neither photo, icon nor text of them is seen. Metrics: the class of a validation photo, among all
81 texts and among all 81 icons, of training classes ("seen") and of the others ("unseen"); and
zero-shot among the left-out classes alone ("unseen among 10"). Sizes are those of
`experiments.grocery`.

DIR as of `experiments.grocery`, with `description` and `iconic_image` in `classes.csv` and
`iconic_images.zip`.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common
from experiments.grocery import IMAGE

RECIPE = {"epochs": 30, "batch": 64, "rate": 2e-3, "weight_decay": 5e-2, "jit": False}
LEFT_OUT = 10
ICONS = 4  # times that the icon of a training class stands among its photos
TEXT = mk.Text(length=48, augment={"word_dropout": {"rate": 0.3}})
ENCODERS = {
    "image": {"name": "resnet", "filters": (24, 48, 96), "dropout": 0.1},
    "text": {"name": "bow", "embedding_dim": 128, "num_layers": 0, "dropout": 0.1},
}
ROWS = {"info_nce": mk.models.clip, "siglip": mk.models.siglip}


def load(folder: Path, quick: bool) -> tuple[list[dict], dict[str, dict[str, list]]]:
    """Returns the classes (name, text, icon) by number, and split -> columns image, match."""
    tables = {}
    for name in ("labels", "classes"):
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            tables[name] = list(csv.DictReader(file))
    with zipfile.ZipFile(folder / "iconic_images.zip") as icons:
        classes = [
            {
                "name": c["class_name"],
                "text": f"{spaced(c['class_name'])}, {spaced(c['coarse_name'])}: "
                + c["description"],
                "icon": icons.read(c["iconic_image"]),
            }
            for c in tables["classes"]
        ]
    splits = {name: {"image": [], "match": []} for name in ("train", "val")}
    with zipfile.ZipFile(folder / "images_train_val.zip") as pictures:
        for row in tables["labels"][:: 8 if quick else 1]:
            part = splits[row["split"]]
            part["image"].append(pictures.read(row["file"]))
            part["match"].append(int(row["class_id"]))
    return classes, splits


def spaced(name: str) -> str:
    """Returns the words of a class name."""
    return name.replace("-", " ")


def left_out(splits: dict) -> np.ndarray:
    """Returns the classes that training does not see: every sixth of the validation pictures'."""
    return np.unique(splits["val"]["match"])[2::6][:LEFT_OUT]


def table(classes: list[dict], splits: dict, seed: int) -> mk.data.Data:
    """Returns photos with the texts of their classes; none of a class that is left out."""
    names = tuple(c["name"] for c in classes)
    unseen = set(left_out(splits))
    columns = {}
    for split, held in splits.items():
        rows = [
            pair for pair in zip(held["image"], held["match"], strict=True) if pair[1] not in unseen
        ]
        if split == "train":
            rows += [(classes[n]["icon"], n) for n in sorted({n for _, n in rows})] * ICONS
        columns[split] = {
            "image": [picture for picture, _ in rows],
            "text": [classes[n]["text"] for _, n in rows],
            "match": [names[n] for _, n in rows],
        }
    return mk.data.table(
        columns["train"],
        {"image": IMAGE, "text": TEXT},
        {"match": mk.Label(classes=names)},
        valid=columns["val"],
        seed=seed,
    )


def measured(
    model: mk.Model, data: mk.data.Data, classes: list[dict], splits: dict
) -> dict[str, float]:
    """Returns the figures on all validation photos, those of left-out classes included."""
    truth = np.array(splits["val"]["match"])
    photos = mk.evaluation.embed(model, data.modalities, {"image": splits["val"]["image"]})["image"]
    texts = [c["text"] for c in classes]
    texts = mk.evaluation.embed(model, data.modalities, {"text": texts})["text"]
    icons = [c["icon"] for c in classes]
    icons = mk.evaluation.embed(model, data.modalities, {"image": icons})["image"]
    unseen = left_out(splits)
    parts = {"seen": ~np.isin(truth, unseen), "unseen": np.isin(truth, unseen)}
    values = {}
    for (part, rows), (name, vectors) in (
        (part, found) for part in parts.items() for found in (("text", texts), ("icon", icons))
    ):
        given = {"labels": truth[rows], "candidate_labels": np.arange(len(classes)), "ks": (1, 5)}
        figures = mk.evaluation.retrieval(photos[rows], vectors, **given)
        for key in ("recall_at_1", "recall_at_5", "mrr"):
            values[f"photo to {name} {key}/{part}"] = figures[key]
    own = {classes[n]["name"]: [classes[n]["text"]] for n in unseen}
    zero = mk.evaluation.zero_shot(model, data.modalities, own, head="match")
    numbers = np.searchsorted(unseen, truth[parts["unseen"]])
    decode = mk.data.decoder(data.modalities["image"])
    raw = [p for p, there in zip(splits["val"]["image"], parts["unseen"], strict=True) if there]
    value, mask = decode(np.array(raw, object))
    x = {"image": value, "image_mask": mask}
    accuracy = mk.evaluation.accuracy(zero, [(x, {"match": numbers})], "match")
    values[f"zero-shot accuracy/unseen among {len(unseen)}"] = accuracy
    return values


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(__doc__, rows={"default": ",".join(ROWS), "help": "which rows"})
    classes, splits = load(Path(args.data), args.quick)
    results = common.Results("grocery_clip", args)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        data = table(classes, splits, seed)
        mk.training.seed(seed)
        model = ROWS[row](data.modalities, ENCODERS, dim=128)
        common.fit(model, data, folder, common.recipe(args, **RECIPE))
        values = measured(model, data, classes, splits)
        return {"parameters": model.count_params(), "values": values}

    best = results.sweep(args, measure, "photo to text recall_at_1/seen")
    data = table(classes, splits, 0)
    common.export(best, data, args.out, "valid", np.arange(16))
    unseen = len(left_out(splits))
    for part, count in (("seen", 81), ("unseen", 81)):
        results.add("chance", f"photo to text recall_at_1/{part}", 1 / count, 0)
    results.add("chance", f"zero-shot accuracy/unseen among {unseen}", 1 / unseen, 0)
    results.save()


if __name__ == "__main__":
    main()
