"""The main job from start to end, on embedded data: train, look, export, serve. No download.

    make quickstart        or        python -m experiments.quickstart --out runs/quickstart

Question answering on generated pictures of coloured shapes (`mmkeras.data.scenes`): a convolutional
and a recurrent encoder, FiLM fusion, `model.fit`, TensorBoard, a SavedModel that takes PNG bytes
and UTF-8, its parity with Keras, and one answer with the picture left out. Under three minutes on
two cores.
"""

import shutil
import time

import keras
import numpy as np

import mmkeras as mk
from experiments import common
from mmkeras.data import scenes

SIZE, OBJECTS, SCENES, EPOCHS, BATCH = 40, 2, 1800, 10, 64


def train(data: mk.data.Data, encoders: dict, fusion: str, epochs: int, run_dir) -> keras.Model:
    """Returns a trained model; its log lies under `run_dir`."""
    mk.training.seed(0)
    model = mk.assemble(
        data.modalities, encoders, fusion, {"answer": mk.heads.Classifier(data.classes)}
    )
    steps = epochs * (len(data.splits["train"]) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=3e-3, warmup_steps=steps // 10
    )
    model.compile(keras.optimizers.AdamW(rate), clip_norm=1.0)
    model.fit(
        data.train(BATCH),
        validation_data=data.valid(256),
        epochs=epochs,
        callbacks=mk.training.callbacks(run_dir, data=data),
    )
    return model


def main() -> None:
    """Runs the main job and prints what it found."""
    args = common.arguments(__doc__)
    start = time.time()
    for made in ("film", "question_only", "exported", "serving"):
        shutil.rmtree(args.out / made, ignore_errors=True)
    count, epochs = (120, 1) if args.quick else (SCENES, EPOCHS)
    rows = scenes.questions(count, seed=1, size=SIZE, max_objects=OBJECTS)
    held_out = scenes.questions(max(count // 5, 60), seed=2, size=SIZE, max_objects=OBJECTS)
    image, question = mk.Image(size=SIZE), mk.Text(length=12)

    data = mk.data.table(rows, {"image": image, "question": question}, "answer", valid=held_out)
    lstm = {"name": "lstm", "embedding_dim": 32}
    model = train(
        data,
        {"image": {"name": "cnn", "filters": (16, 32, 64)}, "question": lstm},
        "film",
        epochs,
        args.out / "film",
    )
    blind = mk.data.table(rows, {"question": question}, "answer", valid=held_out)
    question_only = train(
        blind, {"question": lstm}, "concatenation", epochs, args.out / "question_only"
    )

    truth = {split: held.truth["answer"] for split, held in data.splits.items()}
    figures = {
        "picture and question": common.accuracy(model, data.valid(256), "answer"),
        "question only": common.accuracy(question_only, blind.valid(256), "answer"),
        "majority answer": common.majority(truth["valid"], truth["train"]),
    }
    exported = mk.export.saved_model(
        model, data.modalities, args.out / "exported", data=data, metrics=figures
    )
    some = np.arange(0, len(data.splits["valid"]), 7)[:32]
    folder = mk.export.publish(exported, args.out / "serving" / "vqa", data.raw("valid", some))
    parity = mk.export.check_parity(model, data.modalities, folder, data.raw("valid", some))
    asked = "is there a red circle?"
    answer = mk.export.ask(folder, {"question": [asked]})

    print(f"\nAccuracy on {len(truth['valid'])} held-out questions:")
    for name, value in figures.items():
        print(f"  {name:22} {100 * value:5.1f} %")
    print(f"TensorBoard:  .venv/bin/tensorboard --logdir {args.out}")
    print(f"SavedModel:   {folder}")
    print(f"Parity with Keras on {len(some)} rows, largest difference: {parity['answer']:.1e}")
    print(
        f"Served without a picture: {asked!r} -> '{answer['answer_label'][0]}' "
        f"({answer['answer_scores'].max():.2f})"
    )
    print(f"Done in {time.time() - start:.0f} s.")


if __name__ == "__main__":
    main()
