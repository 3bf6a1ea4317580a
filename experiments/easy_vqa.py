"""easy-VQA: questions about one coloured shape (13 answers), the official protocol.

    python -m experiments.easy_vqa --data DIR --out runs/easy_vqa [--seeds 0,1,2] [--quick]

Train on the training questions for 8 epochs, report accuracy on the test questions, with at most
136,000 parameters (the published Keras CNN x bag of words, 93.78 % on the official test).
Rows: the fusion, question only and image only of the same budget, and the majority answer.
The recipe was chosen with `--tune`, which holds out the questions of 500 training pictures.

DIR holds `images.zip` (train/{id}.png, test/{id}.png), `train_questions.json` and
`test_questions.json` (lists of [question, answer, image id]); or it is filled with `--download`.
"""

import json
from pathlib import Path

import numpy as np

import mmkeras as mk
from experiments import common, official

BUDGET = 136_000
RECIPE = {"epochs": 8, "batch": 64, "rate": 2e-3, "weight_decay": 1e-3}
IMAGE, QUESTION = mk.Image(size=64), mk.Text(length=12)
ROWS = {
    "film": {
        "modalities": {"image": IMAGE, "question": QUESTION},
        "encoders": {
            "image": {"name": "cnn", "filters": (16, 32, 48, 64)},
            "question": {"name": "lstm", "embedding_dim": 32, "hidden_dim": 64},
        },
        "fusion": "film",
    },
    "question_only": {
        "modalities": {"question": QUESTION},
        "encoders": {"question": {"name": "lstm", "embedding_dim": 64, "hidden_dim": 136}},
        "fusion": "concatenation",
    },
    "image_only": {
        "modalities": {"image": IMAGE},
        "encoders": {"image": {"name": "cnn", "filters": (8, 16, 48, 192)}},
        "fusion": "concatenation",
    },
}


def questions(folder: Path, split: str) -> dict[str, list]:
    """Returns the columns image (archive member), question, answer, picture of a split."""
    triples = json.loads((folder / f"{split}_questions.json").read_text())
    question, answer, picture = (list(column) for column in zip(*triples, strict=True))
    member = [f"{split}/{number}.png" for number in picture]
    return {"image": member, "question": question, "answer": answer, "picture": picture}


def load(folder: Path, modalities: dict, *, tune: bool, quick: bool, seed: int) -> mk.data.Data:
    """Returns the data of a run; when tuning, held-out training pictures stand in for the test."""
    train, test = questions(folder, "train"), None if tune else questions(folder, "test")
    if quick:
        train = {k: v[:1500] for k, v in train.items()}
        test = test and {k: v[:300] for k, v in test.items()}
    return mk.data.table(
        train,
        modalities,
        "answer",
        valid=0.125 if tune else test,
        archive=folder / "images.zip" if "image" in modalities else None,
        group="picture" if tune else None,
        seed=seed,
    ).cache()


def main() -> None:
    """Runs every row and seed, exports the best seed of the fusion, writes result.json."""
    args = common.arguments(
        __doc__,
        tune={"action": "store_true", "help": "held-out training pictures instead of the test"},
        rows={"default": ",".join(ROWS), "help": "which rows"},
        download={"action": "store_true", "help": "fetch the official files into --data first"},
    )
    folder = Path(args.data)
    if args.download:
        official.easy_vqa(folder)
    results = common.Results("easy_vqa", args)

    def read(row: str, seed: int) -> mk.data.Data:
        return load(folder, ROWS[row]["modalities"], tune=args.tune, quick=args.quick, seed=seed)

    def measure(row: str, seed: int, out: Path) -> dict:
        """Trains one row with one seed; the last epoch's model is the result."""
        data = read(row, seed)
        mk.training.seed(seed)
        heads = {"answer": mk.heads.Classifier(data.classes)}
        model = mk.assemble(data.modalities, ROWS[row]["encoders"], ROWS[row]["fusion"], heads)
        if model.count_params() > BUDGET:
            raise ValueError(f"{model.count_params()} parameters pass the budget of {BUDGET}.")
        common.fit(model, data, out, common.recipe(args, **RECIPE), samples=seed == 0)
        accuracy = common.accuracy(model, data.valid(256), "answer")
        return {"parameters": model.count_params(), "values": {"accuracy/test": accuracy}}

    best = results.sweep(args, measure, "accuracy/test", lambda row: row == "film")
    data = read("film", 0)
    results.majority(data, "answer", "accuracy/test")
    shown = np.arange(0, len(data.splits["valid"]), 97)[:32]
    common.export(best, data, args.out, "valid", shown)
    results.save()


if __name__ == "__main__":
    main()
