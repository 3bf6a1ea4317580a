"""Classes told in words: their vectors, the classifier made of them, its export and accuracy."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.evaluation import accuracy, described, embed, embeddings, zero_shot
from mmkeras.export.answer import answer
from tests.evaluation.trained import COLORS

TEMPLATES = ("a picture of {}", "{}")


def test_described_is_the_mean_of_the_sentences(trained):
    model, data, _ = trained
    vectors = described(model, data.modalities, list(COLORS), TEMPLATES)
    sentences = [t.format(c) for c in COLORS for t in TEMPLATES]
    each = embed(model, data.modalities, {"text": sentences})["text"].reshape(3, 2, -1)
    mean = each.mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)
    several = {"warm": ("red", "", "zxqv"), "other": ("green", "blue")}
    warm, other = described(model, data.modalities, several)
    red, green, blue = described(model, data.modalities, list(COLORS))
    np.testing.assert_allclose(warm, red, rtol=1e-5)  # the others have no known word
    np.testing.assert_allclose(other, (green + blue) / np.linalg.norm(green + blue), rtol=1e-4)


def test_a_classifier_of_words(trained, tmp_path):
    model, data, part = trained
    zero = zero_shot(model, data.modalities, list(COLORS), TEMPLATES, head="match")
    x = {name: part for name, part in next(iter(data.valid(16)))[0].items() if "image" in name}
    logits = zero.predict_on_batch(x)["match"]
    vectors = described(model, data.modalities, list(COLORS), TEMPLATES)
    scale = float(model.get_layer("match").inverse_temperature())
    cosines = embeddings(model, data.valid(16))["image"] @ vectors.T
    np.testing.assert_allclose(logits, scale * cosines, atol=1e-4)
    assert [list(COLORS)[i] for i in logits.argmax(axis=1)] == part["match"]
    assert accuracy(zero, data.valid(5), "match") == 1.0
    zero.save(tmp_path / "zero.keras")
    again = keras.models.load_model(tmp_path / "zero.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x)["match"], logits)
    mk.export.saved_model(
        zero, {"image": data.modalities["image"]}, tmp_path / "1", signatures=("serving_default",)
    )
    picture = data.raw("valid", [0])["image"][0]
    assert answer(str(tmp_path / "1"), {"image": [picture]})["match_label"] == part["match"][:1]


def test_accuracy_counts_what_is_there_and_rewards_no_ties(trained):
    model, data, _ = trained
    zero = zero_shot(model, data.modalities, list(COLORS), head="match")
    truth = data.splits["valid"].truth["match"]
    wrong = np.where(np.arange(16) < 4, (truth + 1) % 3, truth)
    x = next(iter(data.valid(16)))[0]

    def batches(x):
        return [
            ({k: v[i : i + 8] for k, v in x.items()}, {"match": wrong[i : i + 8]}) for i in (0, 8)
        ]

    assert accuracy(zero, batches(x), "match") == 12 / 16
    assert accuracy(zero, batches(x), "match", k=3) == 1.0
    absent = {**x, "image_mask": np.arange(16) >= 2}
    assert accuracy(zero, batches(absent), "match") == 12 / 14
    with pytest.raises(ValueError, match="Received: none"):
        accuracy(zero, batches({**x, "image_mask": np.zeros(16, bool)}), "match")
    zero.get_layer("match").set_weights([np.zeros((8, 3)), np.zeros(3)])
    assert accuracy(zero, batches(x), "match", k=2) == 0.0


def test_accuracy_counts_no_sample_without_a_label_and_no_nan(trained):
    model, data, _ = trained
    zero = zero_shot(model, data.modalities, list(COLORS), head="match")
    x, truth = next(iter(data.valid(16)))[0], data.splits["valid"].truth["match"]
    known = np.arange(16) >= 3
    y = {"match": np.where(known & (np.arange(16) != 9), truth, (truth + 1) % 3)}
    batch = (x, {**y, "match_mask": known}, np.ones(16, "float32"))
    assert accuracy(zero, [batch], "match") == 12 / 13
    zero.get_layer("match").set_weights([np.full((8, 3), np.nan), np.zeros(3)])
    assert accuracy(zero, [batch], "match", k=2) == 0.0


def test_wrong_input(trained):
    model, data, _ = trained
    with pytest.raises(ValueError, match="Unknown modality 'words'"):
        described(model, data.modalities, ["red"], text="words")
    with pytest.raises(ValueError, match="must hold {} where"):
        described(model, data.modalities, ["red"], ["a picture"])
    with pytest.raises(ValueError, match=r"Received none for \[''\]"):
        described(model, data.modalities, ["red", ""])
    with pytest.raises(ValueError, match=r"Received none for \['zxqv'\]"):
        described(model, data.modalities, ["red", "zxqv"])
    with pytest.raises(ValueError, match=r"embeds the texts \[\]. Name"):
        described(model, {"image": data.modalities["image"]}, ["red"])
