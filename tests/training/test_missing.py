"""The curve of accuracy against the missing rate: against single evaluations, files, dropout."""

import csv
import json
import sys

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmkeras as mk
from tests.core.errors import says

NAMES = ("left", "right", "code")


def table(seed=0, count=256):
    """Three vectors, each of which tells the class, and where some lack the last."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, count)
    columns = {
        name: (3 * np.eye(4)[label] + rng.standard_normal((count, 4))).astype("float32")
        for name in NAMES
    }
    held = {**columns, "code": columns["code"].copy(), "label": [f"c{i}" for i in label]}
    held["code"][0] = np.nan
    specs = {name: mk.Vector(size=4, normalize=False) for name in NAMES}
    whole = {**columns, "code": columns["code"].copy(), "label": held["label"]}
    whole["code"][1::5] = np.nan  # training data that are partly missing
    return mk.data.table(whole, specs, "label", valid=held, test=held, seed=seed)


def trained(data, epochs=6, **options):
    keras.utils.set_random_seed(2)
    heads = {"label": mk.heads.Classifier(data.classes)}
    model = mk.assemble(data.modalities, fusion="concatenation", heads=heads, hidden_dim=8)
    model.compile(keras.optimizers.Adam(2e-2), jit=False)
    model.fit(data.train(32, **options), epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def data():
    return table()


@pytest.fixture(scope="module")
def model(data):
    return trained(data)


def by_name(rows):
    return {(row["missing"], row["rate"]): row for row in rows}


def test_rows_are_what_single_evaluations_say(data, model, tmp_path, capsys):
    rows = mk.training.missing_curve(
        model, data, rates=(0, 0.5), out=tmp_path / "o", log_dir=tmp_path / "t"
    )
    found = by_name(rows)
    everything = [(m, r) for m in NAMES for r in (0.0, 0.5)] + [
        ("all at once", 0.0),
        ("all at once", 0.5),
        *((f"all but {name}", 1.0) for name in NAMES),
        ("all at once", 1.0),
    ]
    assert list(found) == everything
    count = len(data.splits["test"])
    for key, drop in (
        (("right", 0.5), {"right": 0.5}),
        (("all at once", 0.5), 0.5),
        (("all but code", 1.0), {"left": 1.0, "right": 1.0}),
        (("all at once", 1.0), 1.0),
    ):
        batches = data.test(100, drop=drop)
        expected = model.evaluate(batches, return_dict=True, verbose=0)
        for metric, value in expected.items():
            assert found[key][metric] == pytest.approx(value, abs=1e-6)
        x = {k: np.concatenate([b[0][k].numpy() for b in batches]) for k in model.input}
        for name in NAMES:
            assert found[key][f"absent/{name}"] == pytest.approx(1 - x[f"{name}_mask"].mean())
    plain = found["left", 0.0]
    assert [plain[f"absent/{m}"] for m in NAMES] == [0.0, 0.0, pytest.approx(1 / count)]
    assert [found["all at once", 1.0][f"absent/{m}"] for m in NAMES] == [1.0] * 3
    assert found["right", 0.5]["absent/left"] == 0.0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(rows) and shown[0].startswith("1/12 missing left at 0: ")
    assert "accuracy" in shown[0]

    folder = tmp_path / "o"
    names = ["missing.csv", "missing.json", "missing.png"]
    assert sorted(p.name for p in folder.iterdir()) == names  # no scratch is left
    assert json.loads((folder / "missing.json").read_text()) == rows
    with (folder / "missing.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(line["loss"]) for line in read] == [row["loss"] for row in rows]
    assert (folder / "missing.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    events = EventAccumulator(str(tmp_path / "t"), {"scalars": 0, "tensors": 0}).Reload()
    assert "missing/all_at_once/loss" in events.Tags()["tensors"]
    steps = [event.step for event in events.Tensors("missing/all_at_once/loss")]
    assert steps == [0, 50, 100]


def test_a_model_that_has_seen_missing_modalities_misses_them_less(data, model):
    """On rows of its own; absent tokens and what remains are trained as the rest is."""
    rates = (0.0, 0.9)
    robust = trained(data, drop=mk.data.Ramp(0.0, 0.6, steps=16))
    before, after = (
        by_name(mk.training.missing_curve(m, data, rates=rates, verbose=0)) for m in (model, robust)
    )
    metric = next(name for name in before["left", 0.0] if name.endswith("accuracy"))
    everything = before["all at once", 0.0][metric], after["all at once", 0.0][metric]
    assert min(everything) > 0.95
    gained = after["all at once", 0.9]["loss"], before["all at once", 0.9]["loss"]
    assert gained[0] < 0.8 * gained[1]
    alone = [[f"all but {name}", 1.0] for name in NAMES]
    losses = [np.mean([found[m, r]["loss"] for m, r in alone]) for found in (after, before)]
    assert losses[0] < losses[1]
    nothing = after["all at once", 1.0]
    assert nothing["loss"] < before["all at once", 1.0]["loss"] and np.isfinite(nothing["loss"])


def test_without_matplotlib_the_numbers_are_written(data, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    mk.training.missing_curve(model, data, split="valid", rates=(), out=tmp_path, verbose=0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["missing.csv", "missing.json"]
    said = capsys.readouterr()
    assert "pip install 'mmkeras[plot]'" in said.err and not said.out


def test_wrong_arguments_are_refused(data, model):
    one = mk.data.table(
        {"v": [[1.0]] * 4, "label": ["a", "b"] * 2}, {"v": mk.Vector(size=1)}, "label"
    )
    with says(ValueError, "needs two of them", "['v']", "data.test(...)"):
        mk.training.missing_curve(model, one)
    with says(ValueError, "`rates` must lie between 0.0 and 1.0", "rates=1.5"):
        mk.training.missing_curve(model, data, rates=(0.5, 1.5))
