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
from mmkeras.data.fingerprint import fingerprint
from tests.session_loader import Loaded, ask

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
    metrics = {"accuracy/valid": 0.5}
    made = mk.export.saved_model(model, data.modalities, path, data=data, metrics=metrics, top_k=3)
    assert made == path
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


def test_an_item_that_cannot_be_read_is_absent_and_fails_no_row(exported):
    _, data, path = exported
    raw = data.raw("train", range(6))
    broken = {name: values.copy() for name, values in raw.items()}
    broken["image"][0], broken["image"][1] = raw["image"][0][:80], b"no picture"
    broken["question"][2] = b"caf\xe9"
    broken["sound"][4] = tf.audio.encode_wav(tf.zeros((100, 1)), 16_000).numpy()
    broken["sound"][5] = tf.audio.encode_wav(tf.zeros((0, 1)), 8000).numpy()
    broken["numbers"][[1, 5]] = [[np.nan, 1.0], [1.0, np.inf]]
    absent = {name: values.copy() for name, values in raw.items()}
    absent["image"][:2] = absent["question"][2] = absent["sound"][4:] = b""
    absent["numbers"][[1, 5]] = np.nan
    bad = np.zeros((6, 4), bool)
    bad[:2, 0] = bad[2, 1] = bad[4:, 2] = bad[[1, 5], 3] = True
    with Loaded(path) as model:
        for signature, output in (("serving_default", "answer"), ("embed", "fused")):
            told, plain = (model.ask(r, signature) for r in (broken, absent))
            np.testing.assert_array_equal(told["bad_input"], bad)
            np.testing.assert_array_equal(told[output], plain[output])
            assert not plain["bad_input"].any()
        # What masks items before a training is the same.
        rows = {n: list(v) for n, v in broken.items()}
        with pytest.warns(UserWarning, match="cannot be read and count as absent"):
            masked = mk.data.table(rows, data.modalities, on_bad="mask")
        for place, name in enumerate(data.modalities):
            assert sorted(masked.bad["train"][name]) == list(np.flatnonzero(bad[:, place]) + 1)


def test_labels_and_the_likeliest_in_order(exported):
    _, data, path = exported
    out = ask(path, data.raw("train", range(6)))
    classes, tags = (np.array(data.targets[name].classes) for name in ("answer", "tags"))
    order = np.argsort(-out["answer_scores"], axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(out["answer_top_labels"], classes[order])
    best = np.take_along_axis(out["answer_scores"], order, axis=1)
    np.testing.assert_array_equal(out["answer_top_scores"], best)
    np.testing.assert_array_equal(out["answer_label"], classes[order[:, 0]])
    expected = np.where(out["tags"] > 0, tags, "")
    np.testing.assert_array_equal(out["tags_labels"], expected)
    assert (expected == "").any() and (expected != "").any()


def test_decoded_tensors_give_the_same_answers(exported):
    _, data, path = exported
    x, _ = next(iter(data.take("train", np.arange(5)).batches("train", 5)))
    x = {name: value.numpy() for name, value in x.items()}
    with Loaded(path) as model:
        raw = model.ask(data.raw("train", range(5)))
        tensors = model.ask(x, "decoded")
        assert set(raw) == set(tensors) and not tensors["bad_input"].any()
        for name in ("answer", "tags", "size"):
            np.testing.assert_allclose(tensors[name], raw[name], atol=5e-6)
        np.testing.assert_array_equal(tensors["answer_label"], raw["answer_label"])
        # Left out, a modality is absent; what stands behind a false mask is nothing.
        x["image_mask"][:] = False
        masked = model.ask(x, "decoded")["answer"]
        left_out = {k: v for k, v in x.items() if not k.startswith("image")}
        np.testing.assert_allclose(model.ask(left_out, "decoded")["answer"], masked, atol=5e-6)


def test_a_decoded_item_that_no_decoder_returns_is_absent_and_fails_no_row(exported):
    _, data, path = exported
    x, _ = next(iter(data.batches("train", 1000)))
    x = {name: value.numpy() for name, value in x.items()}
    absent = {name: value.copy() for name, value in x.items()}
    bad = np.zeros((len(x["image"]), 4), bool)
    wrong = {"question": [10**6, -1], "sound": [np.nan], "numbers": [np.inf, np.nan, -3e38]}
    for name, values in wrong.items():
        mask = x[f"{name}_mask"].reshape(len(bad), -1)
        for row, value in zip(np.flatnonzero(mask.any(axis=1)), values, strict=False):
            x[name][row, mask[row].argmax()] = value
            absent[f"{name}_mask"][row] = False
            bad[row, list(SPECS).index(name)] = True
    assert bad.sum() == 6
    hidden = np.argwhere(~x["question_mask"])[0]
    x["question"][tuple(hidden)] = -7  # behind the mask: no bad input
    with Loaded(path) as model:
        told, plain = model.ask(x, "decoded"), model.ask(absent, "decoded")
    np.testing.assert_array_equal(told["bad_input"], bad)
    np.testing.assert_array_equal(told["answer"], plain["answer"])
    assert np.isfinite(told["answer"]).all() and not plain["bad_input"].any()


def test_embeddings_are_what_the_fusion_reads(exported):
    model, data, path = exported
    x, _ = next(iter(data.take("train", np.arange(5)).batches("train", 5)))
    found = ask(path, data.raw("train", range(5)), "embed")
    for name in SPECS:
        encoder = next(
            layer
            for layer in model.layers
            if isinstance(layer, keras.Model) and set(layer.input) >= {name}
        )
        made = encoder.predict_on_batch({k: x[k] for k in (name, f"{name}_mask")})
        mask = made["mask"][:, :, None]
        mean = np.where(mask, made["tokens"], 0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        np.testing.assert_allclose(found[name], mean, atol=5e-6)
    assert not found["sound"][0].any(), "the first row has no sound"
    head = next(layer for layer in model.layers if layer.name == "size")
    numbers = found["fused"] @ head.dense.kernel.numpy() + head.dense.bias.numpy()
    np.testing.assert_allclose(numbers, model.predict_on_batch(x)["size"], atol=5e-6)


def test_contributions_are_what_the_answer_loses(exported):
    model, data, path = exported
    x, _ = next(iter(data.take("train", np.arange(5)).batches("train", 5)))
    found = ask(path, data.raw("train", range(5)), "explain")
    present = np.stack([x[f"{m}_mask"].numpy().reshape(5, -1).any(axis=1) for m in SPECS], axis=1)
    np.testing.assert_array_equal(found["present"], present)
    assert "answer_part" not in found and not present.all()

    def scores(x):
        out = model.predict_on_batch(x)
        answer, tags = tf.nn.softmax(out["answer"]).numpy(), tf.sigmoid(out["tags"]).numpy()
        return {"answer": answer, "tags": tags, "size": out["size"]}

    whole = scores(x)
    best = whole["answer"].argmax(axis=1)
    for place, name in enumerate(SPECS):
        key = f"{name}_mask"
        less = scores({**x, key: tf.zeros_like(x[key])})
        change = whole["answer"] - less["answer"]
        wanted = {
            "answer": np.take_along_axis(change, best[:, None], axis=1)[:, 0],
            "tags": whole["tags"] - less["tags"],
            "size": whole["size"] - less["size"],
        }
        for head, value in wanted.items():
            got = found[f"{head}_contribution"][:, place]
            np.testing.assert_allclose(got, value, atol=1e-5)
            assert not got[~present[:, place]].any()


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
    assert about["heads"] == {"answer": "Classifier", "tags": "MultiLabel", "size": "Regressor"}
    assert about["signatures"] == ["serving_default", "decoded", "embed", "explain"]
    assert about["metrics"] == {"accuracy/valid": 0.5}
    assert about["training_data"]["sha256"] == fingerprint(data)
    assert about["versions"]["tensorflow"] == tf.__version__
    assert "git_commit" in about and mk.export.about(path) == about
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

    monkeypatch.setattr(sys.modules["mmkeras.export.saved_model"], "describe", fail)
    with pytest.raises(OSError, match="disk full"):
        mk.export.saved_model(
            model, data.modalities, tmp_path / "serving" / "1", signatures=("serving_default",)
        )
    assert list((tmp_path / "serving").iterdir()) == []


def test_modalities_must_be_those_of_the_model(exported, tmp_path):
    model, data, _ = exported
    fewer = {name: data.modalities[name] for name in ("image", "question")}
    with pytest.raises(ValueError, match="a value and a mask per modality.*data.modalities"):
        mk.export.saved_model(model, fewer, tmp_path / "1")
    raw_specs = {**data.modalities, "question": mk.Text(length=9)}
    with pytest.raises(ValueError, match="'question' is not adapted"):
        mk.export.saved_model(model, raw_specs, tmp_path / "1")
    with pytest.raises(ValueError, match="no signature 'embedding'.*Did you mean 'embed'"):
        mk.export.saved_model(model, data.modalities, tmp_path / "1", signatures=["embedding"])


def test_a_broken_export_is_found(exported, tmp_path):
    model, data, path = exported
    with pytest.raises(RuntimeError, match="did not answer"):
        mk.export.ask(tmp_path / "nothing", {"question": ["?"]})
    keras.utils.set_random_seed(5)
    other = keras.models.clone_model(model)
    difference = mk.export.check_parity(other, data.modalities, path, data.raw("train", range(4)))
    assert difference["answer"] > 1e-3
