"""Nearest neighbours: the three libraries against sorting, absent items, errors."""

import sys

import numpy as np
import pytest

from mmkeras.evaluation import embed, embeddings, nearest, retrieve
from mmkeras.evaluation.nearest import BUILDERS

rng = np.random.default_rng(0)
QUERIES, CANDIDATES = (
    (x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")
    for x in (rng.standard_normal((5, 7)), rng.standard_normal((13, 7)))
)


@pytest.mark.parametrize("library", BUILDERS)
def test_all_libraries_find_the_largest_products(library):
    queries, candidates = QUERIES.copy(), CANDIDATES.copy()
    queries[3], candidates[[0, 6]] = 0.0, 0.0
    rows, similarities = nearest(candidates, library=library)(queries, 4)
    products = np.where(candidates.any(axis=1), queries @ candidates.T, -9)
    expected = np.argsort(-products, axis=1)[:, :4]
    there = [0, 1, 2, 4]
    np.testing.assert_array_equal(rows[there], expected[there])
    wanted = np.take_along_axis(products, expected, axis=1)
    np.testing.assert_allclose(similarities[there], wanted[there], atol=1e-6)
    assert (rows[3] == -1).all() and np.isnan(similarities[3]).all()
    assert rows.dtype == np.int64 and similarities.dtype == np.float32
    assert sorted(nearest(candidates, library=library)(queries[:1], 11)[0][0]) == [
        *range(1, 6),
        *range(7, 13),
    ]


def test_many_queries_are_searched_in_parts(monkeypatch):
    whole = nearest(CANDIDATES)(QUERIES, 4)
    monkeypatch.setattr(sys.modules["mmkeras.evaluation.nearest"], "CHUNK", 2)
    for one, other in zip(whole, nearest(CANDIDATES)(QUERIES, 4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_raw_items_find_their_like(trained):
    model, data, part = trained
    index = nearest(embeddings(model, data.valid(16))["image"])
    rows, similarities = retrieve(model, data.modalities, {"text": ["green", "blue"]}, index, 3)
    assert [{part["match"][i] for i in row} for row in rows] == [{"green"}, {"blue"}]
    vectors = embed(model, data.modalities, {"text": ["green", "blue"]})["text"]
    np.testing.assert_array_equal(index(vectors, 3)[1], similarities)
    with pytest.raises(ValueError, match=r"one modality. Received: \['text', 'image'\]"):
        retrieve(model, data.modalities, {"text": ["green"], "image": [b""]}, index)


@pytest.mark.parametrize(("library", "module"), [("scikit-learn", "sklearn"), ("faiss", "faiss")])
def test_a_missing_library_is_named(monkeypatch, library, module):
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs {library}: pip install 'mmkeras\[index\]'"):
        nearest(CANDIDATES, library=library)


def test_wrong_input():
    with pytest.raises(ValueError, match=r"unit length.*lengths up to 2. Divide"):
        nearest(2 * QUERIES[:1])
    with pytest.raises(ValueError, match=r"shape \(7,\)"):
        nearest(QUERIES[0])
    with pytest.raises(ValueError, match="a candidate that is there"):
        nearest(np.zeros((3, 7)))
    with pytest.raises(ValueError, match="'numpy'"):
        nearest(CANDIDATES, library="annoy")
    with pytest.raises(ValueError, match="k of at most 13 .*Received: k=14, width 7"):
        nearest(CANDIDATES)(QUERIES, 14)
    with pytest.raises(ValueError, match="width 5"):
        short = QUERIES[:, :5] / np.linalg.norm(QUERIES[:, :5], axis=1, keepdims=True)
        nearest(CANDIDATES)(short, 2)
