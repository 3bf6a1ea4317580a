"""The export: raw optional inputs, parity through the session loader, atomic publishing."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import scenes
from tests.session_loader import ask

SPECS = {
    "image": mk.Image(size=32),
    "question": mk.Text(length=9),
    "sound": mk.Audio(rate_hz=8000, seconds=0.3, num_bands=13, features="mfcc"),
    "numbers": mk.Vector(size=2),
}


def rows():
    columns = scenes.questions(12, seed=1, size=40)
    made = scenes.generate(12, seed=1, size=40)
    columns["sound"] = [made[i].sound if i % 3 else None for i in columns["scene"]]
    columns["numbers"] = [[float(i), i / 7] if i % 4 else None for i in columns["scene"]]
    columns["tags"] = [[a, "any"] for a in columns["answer"]]
    return columns


def export(tokenizer, tmp_path_factory):
    specs = {**SPECS, "question": mk.Text(length=9, tokenizer=tokenizer, vocabulary_size=60)}
    targets = {"answer": mk.Label(), "tags": mk.Labels()}
    data = mk.data.table(rows(), specs, targets)
    heads = {
        "answer": mk.heads.Classifier(data.targets["answer"].classes),
        "tags": mk.heads.MultiLabel(data.targets["tags"].classes),
        "size": mk.heads.Regressor(2),
    }
    keras.utils.set_random_seed(0)
    small = {"name": "cnn", "filters": (8, 8)}
    model = mk.assemble(data.modalities, {"image": small, "sound": small}, heads=heads)
    path = tmp_path_factory.mktemp(tokenizer) / "serving" / "1"
    assert mk.export.saved_model(model, data.modalities, path) == path
    return model, data, path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export("words", tmp_path_factory)


def test_wordpiece_needs_nothing_but_the_text_ops(tmp_path_factory):
    model, data, path = export("wordpiece", tmp_path_factory)
    difference = mk.export.check_parity(model, data.modalities, path, data.raw("train", range(20)))
    assert max(difference.values()) <= 5e-6
    words = (path / "assets.extra" / "question_vocabulary.txt").read_text().splitlines()
    assert tuple(words) == data.modalities["question"].vocabulary


def test_parity_with_keras_in_a_process_without_keras(exported):
    model, data, path = exported
    raw = data.raw("train", range(20))
    difference = mk.export.check_parity(model, data.modalities, path, raw)
    assert set(difference) == {"answer", "tags", "size"}
    # The same ops; only fused kernels order their sums otherwise. Measured 1.2e-6 at logits of 3.
    assert max(difference.values()) <= 5e-6


def test_the_tf_data_path_gives_what_is_served(exported):
    model, data, path = exported
    x, _ = next(iter(data.batches("train", 1000)))
    answered = ask(path, data.raw("train", range(len(x["image"]))))
    expected = model.predict_on_batch(x)
    for head, value in expected.items():
        np.testing.assert_allclose(answered[head], value, atol=5e-6)
    logits = expected["answer"]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answered["answer_scores"], scores, atol=5e-6)
    classes = np.array(data.targets["answer"].classes)
    assert (answered["answer_label"] == classes[logits.argmax(axis=1)]).all()
    tags = 1 / (1 + np.exp(-expected["tags"]))
    np.testing.assert_allclose(answered["tags_scores"], tags, atol=5e-6)


@pytest.mark.parametrize("left_out", [("image",), ("question", "numbers"), ("image", "sound")])
def test_an_input_left_out_is_an_absent_modality(exported, left_out):
    model, data, path = exported
    raw = data.raw("train", range(6))
    answered = ask(path, {k: v for k, v in raw.items() if k not in left_out})
    x, _ = next(iter(data.take("train", np.arange(6)).batches("train", 6)))
    for name in left_out:
        x[f"{name}_mask"] = tf.zeros_like(x[f"{name}_mask"])
    np.testing.assert_allclose(answered["answer"], model.predict_on_batch(x)["answer"], atol=5e-6)


def test_one_item_serves_all_rows_and_other_counts_are_refused(exported):
    _, data, path = exported
    raw = data.raw("train", range(3))
    one = {**raw, "image": raw["image"][:1]}
    same = {**raw, "image": np.repeat(raw["image"][:1], 3)}
    np.testing.assert_array_equal(ask(path, one)["answer"], ask(path, same)["answer"])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="must hold as many items as the others"
    ):
        ask(path, {**raw, "image": raw["image"][:2]})
    with pytest.raises(ValueError, match=r"Unknown inputs \['picture'\]"):
        ask(path, {"picture": raw["image"]})


def test_wrong_sound_is_refused_with_the_rule(exported):
    _, data, path = exported
    wave = tf.audio.encode_wav(tf.zeros((100, 1)), 16_000).numpy()
    with pytest.raises(tf.errors.InvalidArgumentError, match="the sampling rate must be 8000 Hz"):
        ask(path, {"sound": [wave]})


def test_signature_and_assets(exported):
    _, data, path = exported
    shown = subprocess.run(
        [
            sys.executable,
            "-m",
            "tensorflow.python.tools.saved_model_cli",
            "show",
            "--dir",
            str(path),
            "--tag_set",
            "serve",
            "--signature_def",
            "serving_default",
        ],
        capture_output=True,
        text=True,
    ).stdout
    for name in SPECS:
        assert f"inputs['{name}']" in shown
    about = json.loads((path / "assets.extra" / "mmkeras.json").read_text())
    assert mk.core.from_json(json.dumps(about)) == data.modalities
    assert about["classes"]["answer"] == list(data.targets["answer"].classes)
    words = (path / "assets.extra" / "question_vocabulary.txt").read_text().splitlines()
    assert tuple(words) == data.modalities["question"].vocabulary
    assert (path / "assets" / "question_vocabulary.txt").read_text().splitlines() == words


def test_an_existing_version_is_never_overwritten(exported):
    model, data, path = exported
    before = (path / "saved_model.pb").read_bytes()
    with pytest.raises(ValueError, match="never overwrites a version.*exists.*next version"):
        mk.export.saved_model(model, data.modalities, path)
    assert (path / "saved_model.pb").read_bytes() == before


def test_nothing_is_left_of_a_failed_export(exported, tmp_path, monkeypatch):
    model, data, _ = exported

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(sys.modules["mmkeras.export.saved_model"], "_describe", fail)
    with pytest.raises(OSError, match="disk full"):
        mk.export.saved_model(model, data.modalities, tmp_path / "serving" / "1")
    assert list((tmp_path / "serving").iterdir()) == []


def test_modalities_must_be_those_of_the_model(exported, tmp_path):
    model, data, _ = exported
    fewer = {name: data.modalities[name] for name in ("image", "question")}
    with pytest.raises(ValueError, match="a value and a mask per modality.*data.modalities"):
        mk.export.saved_model(model, fewer, tmp_path / "1")
    raw_specs = {**data.modalities, "question": mk.Text(length=9)}
    with pytest.raises(ValueError, match="'question' is not adapted"):
        mk.export.saved_model(model, raw_specs, tmp_path / "1")


def test_a_broken_export_is_found(exported, tmp_path):
    model, data, path = exported
    with pytest.raises(RuntimeError, match="did not answer"):
        mk.export.ask(tmp_path / "nothing", {"question": ["?"]})
    keras.utils.set_random_seed(5)
    other = keras.models.clone_model(model)
    difference = mk.export.check_parity(other, data.modalities, path, data.raw("train", range(4)))
    assert difference["answer"] > 1e-3
