"""ONNX and TFLite of decoded tensors: parity with Keras, absent modalities, errors."""

import json
import sys

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.export import variants

SPECS = {
    "picture": mk.Image(size=16),
    "words": mk.Text(length=6, vocabulary=("[PAD]", "[UNK]", "red", "blue", "dot")),
    "frames": mk.Vector(size=3, steps=4, normalize=False),
}
ENCODERS = {
    "picture": {"name": "cnn", "filters": (8,)},
    "words": {"name": "lstm", "hidden_dim": 8},
    "frames": {"name": "transformer", "num_layers": 1},
}


def build():
    keras.utils.set_random_seed(0)
    heads = {
        "kind": mk.heads.Classifier(("a", "b", "c")),
        "tags": mk.heads.MultiLabel(("x", "y")),
        "size": mk.heads.Regressor(),
    }
    return mk.assemble(SPECS, ENCODERS, "late_transformer", heads, hidden_dim=8)


@pytest.fixture(scope="module")
def model():
    return build()


def samples(rng, count):
    """Returns decoded samples; of each modality one sample has nothing."""
    x = {
        "picture": rng.integers(0, 256, (count, 16, 16, 3)).astype("uint8"),
        "words": rng.integers(1, 5, (count, 6)).astype("int32"),
        "frames": rng.standard_normal((count, 4, 3)).astype("float32"),
    }
    for i, name in enumerate(SPECS):
        mask = np.ones((count, *SPECS[name].mask_shape), "bool")
        mask[i] = False
        mask[-1] = i == 2
        x[f"{name}_mask"] = mask
    return x


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_parity_with_keras(model, tmp_path, rng, form):
    path = tmp_path / f"model.{form}"
    assert getattr(mk.export, form)(model, SPECS, path) == path
    for count in (5, 3):
        x = samples(rng, count)
        difference = mk.export.check_tensors(model, path, x)
        assert set(difference) == {"kind", "tags", "size"}
        assert max(difference.values()) <= 5e-6
    answered = mk.export.run_tensors(path, x)
    logits = model.predict_on_batch(x)["kind"]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answered["kind_scores"], scores, atol=5e-6)
    np.testing.assert_allclose(answered["tags_scores"], 1 / (1 + np.exp(-answered["tags"])), 1e-5)
    about = json.loads((tmp_path / f"model.{form}.json").read_text())
    assert mk.core.from_json(json.dumps(about)) == SPECS
    assert about["classes"] == {"kind": ["a", "b", "c"], "tags": ["x", "y"]}
    assert {file.name for file in tmp_path.iterdir()} == {path.name, f"{path.name}.json"}
    with pytest.raises(ValueError, match="never overwrites a file"):
        getattr(mk.export, form)(model, SPECS, path)
    x.pop("words_mask")
    with pytest.raises(ValueError, match=r"Missing: \['words_mask'\]"):
        mk.export.run_tensors(path, x)
    path.unlink()
    with pytest.raises(ValueError, match=rf"never overwrites a file.*model.{form}.json' exists"):
        getattr(mk.export, form)(model, SPECS, path)


@pytest.mark.parametrize(("words", "rows"), [("transformer", -1), ("lstm", 1)])
def test_tflite_takes_one_sample_where_a_layer_is_recurrent_alone(words, rows, tmp_path, rng):
    from ai_edge_litert.interpreter import Interpreter

    size = {"num_layers": 1, "num_heads": 2} if words == "transformer" else {}
    encoders = ENCODERS | {"words": {"name": words, "hidden_dim": 8, **size}}
    heads = {"kind": mk.heads.Classifier(("a", "b", "c"))}
    model = mk.assemble(SPECS, encoders, "concatenation", heads, hidden_dim=8)
    path = mk.export.tflite(model, SPECS, tmp_path / "model.tflite")
    details = Interpreter(str(path)).get_signature_runner("serving_default").get_input_details()
    assert {part["shape_signature"][0] for part in details.values()} == {rows}
    for count in (5, 4):
        x = samples(rng, count)
        assert mk.export.check_tensors(model, path, x)["kind"] <= 5e-6
        assert mk.export.run_tensors(path, x)["kind"].shape == (count, 3)


def test_an_int8_variant_converts_to_onnx_alone(tmp_path, rng):
    inputs = {"a": mk.Vector(4, normalize=False)}
    heads = {"size": mk.heads.Regressor()}
    model = variants.convert(mk.assemble(inputs, heads=heads, hidden_dim=8), "int8")
    x = {"a": rng.standard_normal((3, 4)).astype("float32"), "a_mask": np.array([1, 0, 1], bool)}
    path = mk.export.onnx(model, inputs, tmp_path / "m.onnx")
    assert mk.export.check_tensors(model, path, x)["size"] <= 5e-6
    with pytest.raises(ValueError, match="does not convert to TFLite. Received: int8 weights"):
        mk.export.tflite(model, inputs, tmp_path / "m.tflite")
    assert not (tmp_path / "m.tflite.json").exists()


@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_what_does_not_convert_is_named(tmp_path, form):
    inputs = {
        "a": keras.Input((4,), name="a"),
        "a_mask": keras.Input((), dtype="bool", name="a_mask"),
    }
    outputs = {"size": keras.ops.erfinv(inputs["a"] * 0.5)}
    with pytest.raises(ValueError, match="does not convert to .*docs/formats.md"):
        getattr(mk.export, form)(
            keras.Model(inputs, outputs),
            {"a": mk.Vector(4, normalize=False)},
            tmp_path / f"m.{form}",
        )
    assert list(tmp_path.iterdir()) == []


def test_endings_and_extras_are_named(model, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="must end with .onnx"):
        mk.export.onnx(model, SPECS, tmp_path / "model.tflite")
    with pytest.raises(ValueError, match="must end with .onnx or .tflite"):
        mk.export.run_tensors(tmp_path / "model.pb", {})
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"mmkeras\[onnx\]"):
        mk.export.onnx(model, SPECS, tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"mmkeras\[lite\]"):
        mk.export.run_tensors(tmp_path / "model.tflite", {})
