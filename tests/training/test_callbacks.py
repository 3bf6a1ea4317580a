"""What a run leaves behind: scalars, graph, histograms, samples, best checkpoint, CSV."""

import csv
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmkeras as mk
from mmkeras.data import scenes

EPOCHS = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows, held = (scenes.questions(n, seed=n, size=32) for n in (20, 8))
    for part, n in ((rows, 20), (held, 8)):
        made = scenes.generate(n, seed=n, size=32)
        part["sound"] = [made[i].sound if i % 2 else None for i in part["scene"]]
        part["numbers"] = [[float(i), 1.0] for i in part["scene"]]
    specs = {
        "image": mk.Image(size=32),
        "left": mk.Text(length=8),
        "right": mk.Text(length=8),
        "sound": mk.Audio(rate_hz=8000, seconds=0.2, num_bands=8),
        "numbers": mk.Vector(size=2),
    }
    both = {"left": "question", "right": "question"}
    data = mk.data.table(rows, specs, "answer", valid=held, columns=both)
    small = {"name": "cnn", "filters": (8,)}
    model = mk.assemble(
        data.modalities,
        {"image": small, "sound": small},
        "concatenation",
        {"answer": mk.heads.Classifier(data.classes)},
        hidden_dim=8,
    )
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 100)), jit=False
    )
    folder = tmp_path_factory.mktemp("run") / "deep" / "run"
    history = model.fit(
        data.train(16),
        validation_data=data.valid(16),
        epochs=EPOCHS,
        verbose=0,
        callbacks=mk.training.callbacks(folder, data=data),
    ).history
    return model, data, folder, history


def events(folder):
    accumulator = EventAccumulator(
        str(folder), size_guidance={"tensors": 0, "images": 0, "audio": 0, "graph": 0}
    )
    accumulator.Reload()
    return accumulator


def test_scalars_per_head_and_learning_rate(run):
    _, _, folder, history = run
    train = events(folder / "tensorboard" / "train")
    tags = set(train.Tags()["tensors"])
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"} <= tags
    shown = [float(tf.make_ndarray(e.tensor_proto)) for e in train.Tensors("epoch_loss")]
    np.testing.assert_allclose(shown, history["loss"], rtol=1e-6)
    rates = [float(tf.make_ndarray(e.tensor_proto)) for e in train.Tensors("epoch_learning_rate")]
    assert rates[0] > rates[1] > 0
    validation = events(folder / "tensorboard" / "validation")
    assert "epoch_accuracy" in validation.Tags()["tensors"]


def test_graph_and_one_histogram_per_weight(run):
    model, _, folder, _ = run
    train = events(folder / "tensorboard" / "train")
    assert "keras" in train.Tags()["tensors"] or train.Tags()["graph"]
    histograms = {t for t in train.Tags()["tensors"] if t.endswith("/histogram")}
    paths = [w.path for w in model.trainable_weights]
    assert len(set(paths)) == len(paths)
    assert {f"{path}/histogram" for path in paths} <= histograms
    for tag in histograms:
        assert len(train.Tensors(tag)) == EPOCHS, tag


def test_samples_of_every_modality_each_epoch(run):
    _, data, folder, _ = run
    samples = events(folder / "tensorboard" / "samples")
    tags = samples.Tags()["tensors"]
    assert {"samples/image", "samples/sound", "samples/table"} <= set(tags)
    assert all(len(samples.Tensors(tag)) == EPOCHS for tag in tags)
    image = samples.Tensors("samples/image")[0].tensor_proto.string_val
    assert image[0] == b"32" and image[2].startswith(b"\x89PNG")
    assert samples.Tensors("samples/sound")[0].tensor_proto.string_val[0].startswith(b"RIFF")
    table = samples.Tensors("samples/table")[-1].tensor_proto.string_val[0].decode()
    lines = table.splitlines()
    assert "answer: truth" in lines[0] and "answer: predicted" in lines[0]
    assert len(lines) == 2 + 6
    truth = data.splits["valid"].truth["answer"]
    rows = np.unique(np.linspace(0, len(truth) - 1, 6).astype(int))
    for line, row in zip(lines[2:], rows, strict=True):
        assert line.split("|")[7].strip() == data.classes[truth[row]]
    assert "(absent)" in table and "is" in table


def test_best_checkpoint_is_the_best_epoch(run):
    model, data, folder, history = run
    best = keras.models.load_model(folder / "best.keras")
    measured = best.evaluate(data.valid(16), verbose=0, return_dict=True)
    assert measured["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-5)


def test_csv_has_a_line_per_epoch_and_no_checkpoint_is_left(run):
    _, _, folder, history = run
    with (folder / "log.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["epoch"]) for line in lines] == [0, 1]
    assert float(lines[1]["val_loss"]) == pytest.approx(history["val_loss"][1])
    assert sorted(p.name for p in folder.iterdir()) == ["best.keras", "log.csv", "tensorboard"]


def test_unwritable_run_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ValueError, match="run folder must be writable.*Choose another"):
        mk.training.callbacks(file / "run")
    if os.geteuid() != 0:  # root may write anywhere
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        with pytest.raises(ValueError, match="must be writable"):
            mk.training.callbacks(locked)


def test_without_validation_the_best_is_by_the_training_quantity(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    (found,) = [
        c
        for c in mk.training.callbacks(tmp_path / "fresh", monitor="val_accuracy")
        if hasattr(c, "save_best_only")
    ]
    assert found.best is None and found.mode == "max"
    found.set_model(model)
    found.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
    assert (tmp_path / "fresh" / "best.keras").exists()
