"""Embeddings of a set and classes described by sentences; a model that learns colours zero-shot."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.evaluation import described, embeddings, retrieval

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    names = [list(COLORS)[i] for i in rng.integers(0, 3, 48)]
    shade = [np.clip(rng.normal(COLORS[n], 25, (8, 8, 3)), 0, 255).astype("uint8") for n in names]
    rows = {"image": shade, "text": [f"a picture of {n}" for n in names], "match": names}
    specs = {"image": mk.Image(size=8), "text": mk.Text(length=6)}
    part = {name: column[:16] for name, column in rows.items()}
    keras.utils.set_random_seed(0)
    data = mk.data.table(rows, specs, "match", valid=part)
    encoders = {"image": {"name": "cnn", "filters": (8,)}, "text": "bow"}
    objective = mk.objectives.Contrastive(8)
    model = mk.assemble(data.modalities, encoders, heads={"match": objective})
    model.compile(keras.optimizers.Adam(0.01), jit=False)
    model.fit(data.train(24), epochs=15, verbose=0)
    return model, data, part


def test_embeddings_are_those_of_the_rows_in_order(trained):
    model, data, part = trained
    found = embeddings(model, data.valid(5), "match")
    assert set(found) == {"image", "text"} and found["image"].shape == (16, 8)
    whole = model.predict_on_batch(next(iter(data.valid(16)))[0])["match"]
    np.testing.assert_allclose(found["text"], whole[:, 1], atol=1e-6)
    figures = retrieval(found["image"], found["text"], labels=part["match"], ks=(1,))
    assert figures["recall_at_1"] == 1.0 and figures["queries"] == 16


def test_zero_shot(trained):
    model, data, part = trained
    templates = ("a picture of {}", "{}")
    given = (model, data.modalities["text"], "text", "match", list(COLORS))
    vectors = described(*given, templates)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    each = [described(*given, (template,)) for template in templates]
    mean = np.mean(each, axis=0)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)
    said = (embeddings(model, data.valid(16), "match")["image"] @ vectors.T).argmax(axis=1)
    assert [list(COLORS)[i] for i in said] == part["match"]


def test_wrong_input(trained):
    model, data, _ = trained
    text = data.modalities["text"]
    with pytest.raises(ValueError, match="'pair'. It has \\['match'\\]"):
        embeddings(model, data.valid(5), "pair")
    with pytest.raises(ValueError, match="has no modality 'words'"):
        described(model, text, "words", "match", ["red"])
    with pytest.raises(ValueError, match="must hold {} where"):
        described(model, text, "text", "match", ["red"], ["a picture"])
    with pytest.raises(ValueError, match=r"Received none for \[''\]"):
        described(model, text, "text", "match", ["red", ""])
