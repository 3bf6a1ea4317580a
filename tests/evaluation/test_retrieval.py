"""Retrieval against loops, ties, absent items, chunks and errors."""

import math

import numpy as np
import pytest

from mmkeras.evaluation import retrieval

rng = np.random.default_rng(0)
A, B = rng.standard_normal((2, 13, 4)).astype("float32")
B[:, :2] = A[:, :2]
LABELS = rng.integers(0, 4, 13)


def formula(a, b, labels, other):
    """Ranks by sorting one query's candidates, wrong before right where equal."""
    first, mrr, ndcg = [], [], []
    there = [j for j in range(len(b)) if b[j].any()]
    for i in range(len(a)):
        right = {j for j in there if labels[i] == other[j]}
        if not right or not a[i].any():
            continue
        order = sorted(there, key=lambda j: (-float(a[i] @ b[j]), j in right))
        ranks = [n + 1 for n, j in enumerate(order) if j in right]
        first.append(ranks[0])
        mrr.append(1 / ranks[0])
        best = sum(1 / math.log2(1 + n + 1) for n in range(len(ranks)))
        ndcg.append(sum(1 / math.log2(1 + r) for r in ranks) / best)
    recall = {f"recall_at_{k}": np.mean([r <= k for r in first]) for k in (1, 5, 10)}
    return {**recall, "median_rank": np.median(first), "mrr": np.mean(mrr), "ndcg": np.mean(ndcg)}


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_formula(labels, chunk):
    a, b = A.copy(), B.copy()
    a[3], b[5] = 0.0, 0.0
    names = np.arange(13) if labels is None else labels
    found = retrieval(a, b, labels=labels, chunk=chunk)
    for name, value in formula(a, b, names, names).items():
        assert found[name] == pytest.approx(value, rel=1e-6), name
    assert found["candidates"] == 12
    assert found["queries"] == (11 if labels is None else 12)


def test_other_candidates():
    classes = rng.standard_normal((4, 4)).astype("float32")
    found = retrieval(A, classes, labels=LABELS, candidate_labels=np.arange(4), ks=(1,))
    assert found["recall_at_1"] == np.mean((A @ classes.T).argmax(1) == LABELS)
    assert found["ndcg"] == pytest.approx(formula(A, classes, LABELS, np.arange(4))["ndcg"])


def test_equal_embeddings_are_not_rewarded():
    same = np.ones((10, 3))
    assert retrieval(same, same) | {"ndcg": 0} == {
        "recall_at_1": 0.0,
        "recall_at_5": 0.0,
        "recall_at_10": 1.0,
        "median_rank": 10.0,
        "mrr": pytest.approx(0.1),
        "ndcg": 0,
        "queries": 10,
        "candidates": 10,
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"queries": A[0]}, r"`queries` must be finite numbers of shape \(N, D\)"),
        ({"candidates": np.full_like(B, np.nan)}, "some not finite"),
        ({"queries": A[:, :2]}, "widths 2 and 4"),
        ({"candidates": B[:5]}, r"\(13,\) for 5 rows"),
        ({"queries": np.zeros_like(A)}, "of which 0 are there"),
        ({"labels": np.arange(13), "candidate_labels": np.arange(13) + 20}, "none of the same"),
    ],
)
def test_wrong_input(wrong, says):
    with pytest.raises(ValueError, match=says):
        retrieval(**{"queries": A, "candidates": B, **wrong})
