"""Smaller numbers: what they cost is measured, and refused where it is too much."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.export import variants
from tests import session_loader

SPECS = {"picture": mk.Image(size=8), "frames": mk.Vector(size=3, steps=5)}
ENCODERS = {
    "picture": {"name": "cnn", "filters": (8,)},
    "frames": {"name": "lstm", "hidden_dim": 8},
}


@pytest.fixture(scope="module")
def trained():
    """A model that tells the sign of numbers, and how dark a picture is."""
    rng = np.random.default_rng(0)
    sign = np.arange(60) % 2
    noise = rng.standard_normal((60, 5, 3))
    rows = {
        "picture": list(rng.integers(0, 80, (60, 8, 8, 3)).astype("uint8")),
        "frames": list(noise + 6.0 * sign[:, None, None]),
        "sign": [("minus", "plus")[i] for i in sign],
        "amount": [float(i) for i in sign],
    }
    parts = [{k: v[part] for k, v in rows.items()} for part in (slice(40), slice(40, 60))]
    targets = {"sign": mk.Label(), "amount": mk.Number()}
    data = mk.data.table(parts[0], SPECS, targets, valid=parts[1])
    keras.utils.set_random_seed(0)
    heads = {"sign": mk.heads.Classifier(("minus", "plus")), "amount": mk.heads.Regressor()}
    model = mk.assemble(data.modalities, ENCODERS, "concatenation", heads, hidden_dim=8)
    model.compile(mk.training.optimizer("adamw", 0.02), jit=False)
    model.fit(data.train(batch_size=20), epochs=8, verbose=0)
    return model, data


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "int8"])
def test_a_variant_is_smaller_and_as_good(trained, tmp_path, precision):
    model, data = trained
    before = [np.array(w) for w in model.get_weights()]
    report = mk.export.variant(model, data, tmp_path / "1", precision, max_loss=0.1)
    assert report["after"]["sign_accuracy"] == report["before"]["sign_accuracy"] == 1.0
    assert 0 < abs(report["lost"]["amount_mae"]) <= 0.1 or precision == "float16"
    smaller = {"bfloat16": 0.55, "float16": 0.55, "int8": 0.9}[precision]
    assert report["bytes"]["after"] <= smaller * report["bytes"]["before"]
    answered = session_loader.ask(tmp_path / "1", data.raw("valid", range(20)))
    assert (answered["sign_label"] == np.array(["minus", "plus"] * 10)).all()
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    x, _ = next(iter(data.batches("valid", 20)))
    copy = variants.convert(model, precision).predict_on_batch(x)["sign"]
    assert copy.dtype == "float32"
    np.testing.assert_allclose(answered["sign"], copy, atol=0.05)  # fused kernels round elsewhere
    assert 0 < np.abs(copy - model.predict_on_batch(x)["sign"]).max() < 0.3


def test_float32_is_the_model(trained, tmp_path):
    model, data = trained
    export = {"max_loss": 0.0, "top_k": 1, "signatures": ["serving_default"], "jit": True}
    report = mk.export.variant(model, data, tmp_path / "1", "float32", **export)
    assert mk.export.about(tmp_path / "1")["signatures"] == ["serving_default"]
    assert b"_XlaMustCompile" in (tmp_path / "1" / "saved_model.pb").read_bytes()
    answered = session_loader.ask(tmp_path / "1", data.raw("valid", range(3)))
    assert answered["sign_top_labels"].shape == (3, 1)
    with pytest.raises(ValueError, match="'signatures', 'top_k'.*argument='top_n'"):
        mk.export.variant(model, data, tmp_path / "2", "float32", top_n=1)
    assert report["before"] == report["after"]
    assert report["bytes"]["before"] == report["bytes"]["after"]


def test_too_great_a_loss_is_refused_and_nothing_is_written(trained, tmp_path):
    model, data = trained
    figures = iter([{"recall": 0.9}, {"recall": 0.85}])
    with pytest.raises(
        ValueError, match=r"int8 variant loses more than max_loss=0.01.*0.9 -> 0.85"
    ):
        mk.export.variant(model, data, tmp_path / "1", "int8", quality=lambda m: next(figures))
    figures = iter([{"recall": 0.9}, {"recall": float("nan")}])
    with pytest.raises(ValueError, match="Nothing was written"):
        mk.export.variant(model, data, tmp_path / "1", "int8", quality=lambda m: next(figures))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="precision.*int4"):
        mk.export.variant(model, data, tmp_path / "1", "int4")
    with pytest.raises(ValueError, match="never overwrites a version"):
        mk.export.variant(model, data, tmp_path, "int8")


def test_xla_is_an_option_that_changes_no_answer(trained, tmp_path):
    model, data = trained
    paths = [
        mk.export.saved_model(
            model, data.modalities, tmp_path / n, signatures=("serving_default",), jit=n == "x"
        )
        for n in "nx"
    ]
    compiled = [b"_XlaMustCompile" in (path / "saved_model.pb").read_bytes() for path in paths]
    assert compiled == [False, True]
    for rows in (1, 3):
        plain, fast = (session_loader.ask(path, data.raw("valid", range(rows))) for path in paths)
        np.testing.assert_allclose(fast["sign"], plain["sign"], atol=5e-6)
