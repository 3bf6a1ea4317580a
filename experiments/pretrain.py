"""Few labels: a model that has learnt to match pictures and questions, against one from scratch.

    python -m experiments.pretrain --data DIR --out runs/pretrain [--seeds 0,1,2] [--quick]

easy-VQA, of whose training questions 1 %, 3 % and 10 % have an answer. "pretrained" first learns,
without an answer, which picture belongs to which of the questions that begin with "what": "what is
the blue shape?" tells that there is something blue (yes-or-no questions tell nothing). Encoders and
fusion learn it by two objectives, contrastive (one question under several pictures: all are
positives) and matching with hard negatives. Then all of the model but the new head starts from
there, and is trained as "scratch" is: on the same rows, for as many steps, at the same rate.
Question only and the majority answer for comparison. Accuracy on the official test questions.
Sizes and recipes were chosen with `--tune`, which holds out the questions of every eighth training
picture, by seed 0.

DIR: as of experiments.easy_vqa. Writes `curve.png` besides, where matplotlib is there.
"""

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import mmkeras as mk
from experiments import common, easy_vqa
from mmkeras.training import recipe as recipes

SHARES = {"1 %": 0.01, "3 %": 0.03, "10 %": 0.1}
STEPS = 1200  # of finetuning, whatever the share
PRETRAINING = {"epochs": 24, "batch": 128, "rate": 2e-3, "weight_decay": 1e-2}
FINETUNING = {"batch": 32, "rate": 3e-3, "weight_decay": 1e-2}
IMAGE, QUESTION = mk.Image(size=32), mk.Text(length=12)
ENCODERS = {
    "image": {"name": "cnn", "filters": (16, 32, 64)},
    "question": {"name": "lstm", "embedding_dim": 32, "hidden_dim": 64},
}
ROWS = ("scratch", "pretrained", "question_only")


def load(folder: Path, *, tune: bool, quick: bool) -> dict[str, dict[str, list]]:
    """Returns split -> columns of questions."""
    train = easy_vqa.questions(folder, "train")
    held = np.array(train["picture"]) % 8 == 0
    splits = {"train": train, "valid": None if tune else easy_vqa.questions(folder, "test")}
    if tune:
        splits = {
            "train": {
                k: [v for v, h in zip(c, held, strict=True) if not h] for k, c in train.items()
            },
            "valid": {k: [v for v, h in zip(c, held, strict=True) if h] for k, c in train.items()},
        }
    sizes = {"train": 1500, "valid": 300} if quick else {}
    return {s: {k: c[: sizes.get(s)] for k, c in part.items()} for s, part in splits.items()}


def pretrained(
    splits: dict, data: mk.data.Data, archive: Path, recipe: dict, folder: Path
) -> keras.Model:
    """Returns a model that matches pictures and questions, trained without answers.

    It is trained once: a run that was interrupted afterwards finds it in the folder.
    """
    file = folder / "pretrained.keras"
    if file.exists():
        return keras.models.load_model(file)
    asked = splits["train"]["question"]
    rows = [i for i, question in enumerate(asked) if question.startswith("what")]
    columns = {"image": [splits["train"]["image"][i] for i in rows]}
    columns["question"] = columns["match"] = [asked[i] for i in rows]
    pairs = mk.data.table(
        columns,
        data.modalities,
        {"match": mk.Label(classes=tuple(sorted(set(columns["match"]))))},
        archive=archive,
        seed=data.seed,
    ).cache()
    mk.training.seed(data.seed)
    heads = {
        "match": mk.objectives.Contrastive(64),
        "pairing": mk.objectives.Matching("match", temperature=1.0),
    }
    model = mk.assemble(pairs.modalities, ENCODERS, "film", heads)
    recipes.train(model, pairs, recipe, verbose=2, callbacks=callbacks(folder))
    model.save(folder / "new.keras")
    (folder / "new.keras").replace(file)  # there whole, or not at all
    return model


def start(model: keras.Model, source: keras.Model | None) -> None:
    """Gives the model the weights that the source has too."""
    known = {weight.path: weight for weight in source.weights} if source is not None else {}
    for weight in model.weights:
        if weight.path in known:
            weight.assign(known[weight.path])


def callbacks(folder: Path) -> list:
    """TensorBoard and the like, without histograms."""
    return mk.training.callbacks(folder, histogram_freq=0)


def labelled(data: mk.data.Data, share: float, seed: int) -> mk.data.Data:
    """Returns the data with a part of the training rows; smaller parts lie in larger ones."""
    count = len(data.splits["train"])
    order = np.random.default_rng(seed).permutation(count)
    return data.take("train", np.sort(order[: round(share * count)]))


def draw(rows: Any, path: Path) -> None:
    """Draws accuracy by share of labels: the mean and every seed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("No curve.png: it needs matplotlib, pip install 'mmkeras[plot]'.", file=sys.stderr)
        return
    figure = Figure((6.4, 4.4), layout="tight")
    axes = figure.subplots()
    for number, name in enumerate(dict.fromkeys(row["row"] for row in rows)):
        held = [row for row in rows if row["row"] == name]
        if name == "majority":
            axes.axhline(held[0]["values"][0], linestyle=":", color="black", label=name)
            continue
        shares = [100 * SHARES[row["split"].removeprefix("test, ")] for row in held]
        axes.plot(shares, [np.mean(row["values"]) for row in held], "-", c=f"C{number}", label=name)
        for share, row in zip(shares, held, strict=True):
            axes.plot([share] * len(row["values"]), row["values"], ".", color=f"C{number}")
    axes.set(xscale="log", xlabel="labelled training questions, %", ylabel="accuracy")
    axes.set_xticks([100 * share for share in SHARES.values()], list(SHARES))
    axes.legend()
    figure.savefig(path, format="png", dpi=120)


def main() -> None:
    """Runs every row and seed, writes result.json and curve.png."""
    args = common.arguments(
        __doc__,
        tune={"action": "store_true", "help": "held-out training pictures instead of the test"},
        rows={"default": ",".join(ROWS), "help": "which rows"},
    )
    folder = Path(args.data)
    splits = load(folder, tune=args.tune, quick=args.quick)
    results = common.Results("pretrain", args)

    def table(row: str, seed: int) -> mk.data.Data:
        specs = {"image": IMAGE, "question": QUESTION}
        specs = {m: spec for m, spec in specs.items() if m == "question" or "only" not in row}
        archive = folder / "images.zip" if "image" in specs else None
        return mk.data.table(
            splits["train"], specs, "answer", valid=splits["valid"], archive=archive, seed=seed
        )

    def measure(row: str, seed: int, out: Path) -> dict:
        """Pretrains where the row says so, then trains on each share of the labels."""
        data, source, values = table(row, seed).cache(), None, {}
        if row == "pretrained":
            recipe = common.recipe(args, **PRETRAINING)
            source = pretrained(splits, data, folder / "images.zip", recipe, out)
        for name, share in SHARES.items():
            few = labelled(data, share, seed)
            mk.training.seed(seed)
            model = mk.assemble(
                data.modalities,
                {m: ENCODERS[m] for m in data.modalities},
                "film" if "image" in data.modalities else "concatenation",
                {"answer": mk.heads.Classifier(data.classes)},
            )
            start(model, source)
            batch = min(FINETUNING["batch"], len(few.splits["train"]))
            epochs = max(1, round(STEPS * batch / len(few.splits["train"])))
            recipe = {**FINETUNING, "batch": batch, "epochs": epochs}
            recipes.train(model, few, common.recipe(args, **recipe), verbose=0)
            accuracy = common.accuracy(model, data.valid(256), "answer")
            values[f"accuracy/test, {name}"] = accuracy
            print(f"{row}, seed {seed}, {name} of the labels: {100 * accuracy:.2f} %", flush=True)
        model.save(out / "last.keras")
        return {"parameters": model.count_params(), "values": values}

    last = f"accuracy/test, {list(SHARES)[-1]}"
    results.sweep(args, measure, last)
    data = table("question_only", 0)
    results.majority(data, "answer", last)
    draw(results.save()["rows"], args.out / "curve.png")


if __name__ == "__main__":
    main()
