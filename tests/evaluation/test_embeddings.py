"""Embeddings of a set and of raw items; retrieval of all pairs of modalities."""

import numpy as np
import pytest

from mmkeras.evaluation import cross_retrieval, embed, embeddings, retrieval


def test_embeddings_are_those_of_the_rows_in_order(trained):
    model, data, part = trained
    found = embeddings(model, data.valid(5))
    assert set(found) == {"image", "text"} and found["image"].shape == (16, 8)
    whole = model.predict_on_batch(next(iter(data.valid(16)))[0])["match"]
    np.testing.assert_allclose(found["text"], whole[:, 1], atol=1e-6)
    np.testing.assert_array_equal(embeddings(model, data.valid(5), "match")["text"], found["text"])
    figures = retrieval(found["image"], found["text"], labels=part["match"], ks=(1,))
    assert figures["recall_at_1"] == 1.0 and figures["queries"] == 16


def test_raw_items_are_embedded_as_the_rows(trained):
    model, data, _ = trained
    rows = embeddings(model, data.valid(16))
    raw = data.raw("valid", np.arange(16))
    for name in ("image", "text"):
        found = embed(model, data.modalities, {name: raw[name]}, batch_size=7)
        assert set(found) == {name}
        np.testing.assert_allclose(found[name], rows[name], atol=1e-6)
    texts = embed(model, data.modalities, {"text": ["a picture of red", ""]})["text"]
    assert np.linalg.norm(texts[0]) == pytest.approx(1.0, abs=1e-5) and not texts[1].any()


def test_cross_retrieval_is_both_directions_of_what_is_there(trained):
    model, data, part = trained
    data = data.without("valid", "image", np.arange(3)).without("valid", "text", np.array([5]))
    held = embeddings(model, data.valid(16))
    pairs = cross_retrieval(model, data.valid(6), ks=(1, 3))
    labelled = cross_retrieval(model, data.valid(6), target="match", ks=(1,))
    assert set(pairs) == {("image", "text"), ("text", "image")} == set(labelled)
    for (a, b), figures in pairs.items():
        assert figures == pytest.approx(retrieval(held[a], held[b], ks=(1, 3)))
        assert figures["queries"] == 12  # rows that have both
        expected = retrieval(held[a], held[b], labels=part["match"], ks=(1,))
        assert labelled[a, b] == pytest.approx(expected)
    assert labelled["image", "text"]["queries"] == 13
    assert labelled["text", "image"]["candidates"] == 13
    known = np.arange(16) % 3 > 0
    batches = [
        (
            {name: value[i : i + 8] for name, value in x.items()},
            {"match": y["match"][i : i + 8], "match_mask": known[i : i + 8]},
        )
        for x, y in data.valid(16)
        for i in (0, 8)
    ]
    own = np.where(known, data.splits["valid"].truth["match"], 100 + np.arange(16))  # alone
    expected = retrieval(held["image"], held["text"], labels=own, ks=(1,))
    found = cross_retrieval(model, batches, target="match", ks=(1,))
    assert found["image", "text"] == pytest.approx(expected)


def test_wrong_input(trained):
    model, data, _ = trained
    with pytest.raises(ValueError, match=r"objective 'pair'. It has \['match'\]"):
        embeddings(model, data.valid(5), "pair")
    with pytest.raises(ValueError, match="Unknown modality 'words'"):
        embed(model, data.modalities, {"words": ["red"]})
    with pytest.raises(ValueError, match="one item or more. Received: none of 'text'"):
        embed(model, data.modalities, {"text": []})
