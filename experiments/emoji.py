"""Emoji: which of 184 texts belongs to a picture, and which picture to a text, from scratch.

    python -m experiments.emoji --data DIR --out runs/emoji [--seeds 0,1,2] [--quick]

CLIP (InfoNCE, once more with near negatives weighing more) and SigLIP on 1,123 pictures with name
and keywords; the 184 held-out pairs show other emoji. The row `together` is one model of a seed's
three: its cosines are the means of theirs, and the rows of a seed draw random numbers of their own,
so that the three err apart. Nothing is pretrained: word vectors start from a singular value
decomposition of the training texts (latent semantic analysis), all else from random weights.
Further metrics: the group (of 9) of a picture, zero-shot, told in hand-written words, and in the
texts of the training rows. Sizes, recipe and augmentation were chosen on the held-out pairs.

DIR holds `pairs.csv` (file, name, group, keywords joined by "|", split) and `images.zip`, RGBA
pictures by these files.
"""

import csv
import functools
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk
from experiments import common

RECIPE = {
    "epochs": 120,
    "batch": 128,
    "rate": 2e-3,
    "weight_decay": 5e-2,
    "ema": 0.98,
    "jit": False,
}
WIDTH = 256  # of the word vectors
IMAGE = mk.Image(
    size=36,
    augment={
        "flip": {},
        "translate": {"fraction": 0.04},
        "zoom": {"fraction": 0.05},
        "color_jitter": {"hue": 0.02, "saturation": 0.2},
    },
)
TEXT = mk.Text(length=28, augment={"word_dropout": {"rate": 0.6}})
ROWS = {
    "hard_nce": functools.partial(mk.models.clip, loss="hard_nce"),
    "info_nce": mk.models.clip,
    "siglip": mk.models.siglip,
}
GROUPS = {
    "Smileys & Emotion": ("face", "smile", "emotion", "happy", "sad", "heart"),
    "People & Body": ("person", "man", "woman", "people", "body", "hand"),
    "Animals & Nature": ("animal", "nature", "bird", "plant", "flower", "tree"),
    "Food & Drink": ("food", "drink", "fruit", "vegetable", "dessert"),
    "Travel & Places": ("travel", "place", "vehicle", "transportation", "building", "weather"),
    "Activities": ("activity", "sports", "game", "celebration", "play"),
    "Objects": ("object", "tool", "clothes", "office", "technology", "book"),
    "Symbols": ("symbol", "sign", "arrow", "shape", "letter", "number"),
    "Flags": ("flag", "country", "nation"),
}


def load(folder: Path, quick: bool) -> dict[str, dict[str, list]]:
    """Returns split -> columns image, text, group; pictures on white; every eighth when quick."""
    splits = {name: {"image": [], "text": [], "group": []} for name in ("train", "val")}
    with (
        (folder / "pairs.csv").open(newline="", encoding="utf-8") as file,
        zipfile.ZipFile(folder / "images.zip") as pictures,
    ):
        for row in list(csv.DictReader(file))[:: 8 if quick else 1]:
            text = f"{row['name']}, {row['keywords'].replace('|', ', ')}"
            cells = (on_white(pictures.read(row["file"])), text, row["group"])
            for column, cell in zip(splits[row["split"]].values(), cells, strict=True):
                column.append(cell)
    return splits


def on_white(png: bytes) -> np.ndarray:
    """Returns an RGBA picture on a white ground: uint8 (H, W, 3)."""
    picture = tf.io.decode_png(png, channels=4).numpy().astype("float32")
    share = picture[..., 3:] / 255
    return np.round(picture[..., :3] * share + 255 * (1 - share)).astype("uint8")


def word_vectors(data: mk.data.Data, dim: int) -> np.ndarray:
    """Returns the words as right singular vectors of the training texts, (vocabulary, dim).

    The texts are rows of inverse document frequencies, of unit length (Deerwester et al. 1990);
    each word's vector is times its frequency, so that the sum of a text's is its projection. Where
    there are fewer singular vectors than `dim`, the rest is zero.
    """
    ids = np.concatenate([x["text"] for x, *_ in data.batches("train", 256)])
    held = np.zeros((len(ids), len(data.modalities["text"].vocabulary)), "float32")
    np.put_along_axis(held, ids, 1.0, axis=1)
    held[:, :2] = 0.0  # padding and unknown
    rarity = np.log(len(ids) / np.maximum(held.sum(axis=0), 1.0))
    held *= rarity
    held /= np.maximum(np.linalg.norm(held, axis=1, keepdims=True), 1e-6)
    vectors = np.linalg.svd(held, full_matrices=False)[2][:dim].T * rarity[:, None]
    vectors[:2] = 0.0  # but for rounding, they are
    vectors = np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))
    return 0.05 / vectors.std() * vectors


def picture(name: str, modality: mk.Image) -> keras.Model:
    """Returns a residual network whose places stay apart: emoji are drawn to one grid."""
    network = mk.encoders.image_resnet(name, modality, filters=(24, 48, 96), dropout=0.1)
    tokens, mask = network.output["tokens"], network.output["mask"]
    flat = keras.layers.Reshape((1, tokens.shape[1] * tokens.shape[2]), name=f"{name}_flat")(tokens)
    flat = keras.layers.Dropout(0.4, name=f"{name}_drop")(flat)
    _, mask = mk.layers.MeanToken(name=f"{name}_there")(tokens, mask)
    outputs = {"tokens": flat, "mask": mask}
    return keras.Model(network.input, outputs, name=f"{name}_places")


def build(row: str, data: mk.data.Data) -> mk.Model:
    """Returns the model of a row: a residual network, and the mean of a text's word vectors."""
    encoders = {
        "image": picture,
        "text": {
            "name": "bow",
            "embedding_dim": WIDTH,
            "num_layers": 0,
            "embeddings": word_vectors(data, WIDTH),
        },
    }
    return ROWS[row](data.modalities, encoders, dim=128)


def together(members: Sequence[mk.Model], modalities: Mapping[str, mk.Modality]) -> mk.Model:
    """Returns a model whose cosines are the means of the members' (they share their weights)."""

    def joined(name: str, modality: mk.Modality) -> keras.Model:
        towers = [mk.models.tower(member, name) for member in members]
        inputs = towers[0].input
        parts = [
            keras.Model(tower.input, tower.output["embedding"], name=f"{name}_{i}")(inputs)
            for i, tower in enumerate(towers)
        ]
        vectors = keras.layers.Concatenate(name=f"{name}_joined")(parts)
        tokens = keras.layers.Reshape((1, vectors.shape[-1]), name=f"{name}_token")(vectors)
        outputs = {"tokens": tokens, "mask": keras.ops.any(tokens != 0, axis=-1)}
        return keras.Model(inputs, outputs, name=f"{name}_together")

    encoders = dict.fromkeys(modalities, joined)
    dim = sum(mk.models.objective_of(member).dim for member in members)
    model = mk.models.clip(modalities, encoders, dim=dim, name="together")
    for projection in mk.models.objective_of(model).projections.values():
        projection.set_weights([np.eye(dim)])
    return model


def measured(model: mk.Model, data: mk.data.Data, splits: dict) -> dict[str, float]:
    """Returns the figures on the held-out pairs."""
    values = {}
    for (a, b), figures in mk.evaluation.cross_retrieval(model, data.valid(256)).items():
        for name in ("recall_at_1", "recall_at_5", "recall_at_10", "mrr"):
            values[f"{a} to {b} {name}/val"] = figures[name]
        print(f"{a} to {b}: median rank {figures['median_rank']} of {figures['candidates']}")
    train = splits["train"]
    texts = {
        group: [t for t, g in zip(train["text"], train["group"], strict=True) if g == group]
        for group in GROUPS
        if group in train["group"]
    }
    vocabulary = set(data.modalities["text"].vocabulary)  # few words with --quick
    words = {group: own for group, own in GROUPS.items() if vocabulary.intersection(own)}
    for told, classes in {"words": words, "texts": texts}.items():
        names = list(classes)
        zero = mk.evaluation.zero_shot(model, data.modalities, classes, head="group")
        known = np.array([g in names for g in splits["val"]["group"]])
        truth = np.array([names.index(g) for g in splits["val"]["group"] if g in names])
        x = {key: value[known] for key, value in next(iter(data.valid(len(known))))[0].items()}
        accuracy = mk.evaluation.accuracy(zero, [(x, {"group": truth})], "group")
        values[f"group by {told}/val"] = accuracy
    return values


def main() -> None:
    """Runs every row and seed, exports the best, writes result.json."""
    args = common.arguments(
        __doc__, rows={"default": ",".join([*ROWS, "together"]), "help": "which rows"}
    )
    splits = load(Path(args.data), args.quick)
    results = common.Results("emoji", args)

    def table(seed: int) -> mk.data.Data:
        specs = {"image": IMAGE, "text": TEXT}
        return mk.data.table(splits["train"], specs, valid=splits["val"], seed=seed)

    def measure(row: str, seed: int, folder: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        if row == "together":
            data, runs = table(seed), [folder.parent / f"{other}-{seed}" for other in ROWS]
            missing = [run.name for run in runs if not (run / "last.keras").exists()]
            if missing:
                raise FileNotFoundError(
                    "The row together joins the models of the other rows, which run before it. "
                    f"Missing: {missing}. Run them with the same --out, or leave it out of --rows."
                )
            members = [keras.models.load_model(run / "last.keras") for run in runs]
            model = together(members, data.modalities)
            model.save(folder / "last.keras")
            parameters = sum(member.count_params() for member in members)
        else:
            own = len(ROWS) * seed + list(ROWS).index(row)
            data = table(own)
            mk.training.seed(own)
            model = build(row, data)
            common.fit(model, data, folder, common.recipe(args, **RECIPE))
            parameters = model.count_params()
        return {"parameters": parameters, "values": measured(model, data, splits)}

    best = results.sweep(args, measure, "image to text recall_at_1/val")
    data = table(0)
    common.export(best, data, args.out, "valid", np.arange(16))
    results.add("chance", "image to text recall_at_1/val", 1 / len(splits["val"]["text"]), 0)
    results.save()


if __name__ == "__main__":
    main()
