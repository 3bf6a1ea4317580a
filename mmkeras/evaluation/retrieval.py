"""Retrieval between two sets of embeddings: recall at k, median rank, MRR and nDCG."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np

from mmkeras.core import checks
from mmkeras.evaluation.embeddings import embeddings
from mmkeras.models import objective_of


def retrieval(
    queries: Any,
    candidates: Any,
    *,
    labels: Any = None,
    candidate_labels: Any = None,
    ks: Sequence[int] = (1, 5, 10),
    chunk: int = 256,
) -> dict[str, float]:
    """How well queries find their candidates by the largest dot product, over the whole set.

    Ranks begin at 1. Where similarities are equal, what is wrong stands before what is right, so
    that equal embeddings are not rewarded. With pos_1 < pos_2 < ... the ranks of the R relevant
    candidates of a query:

        recall_at_k   share of queries with pos_1 <= k ("at least one", as in CLIP's tables)
        median_rank   median of pos_1
        mrr           mean of 1 / pos_1
        ndcg          mean of sum_i 1 / log2(1 + pos_i) / sum_{i <= R} 1 / log2(1 + i)

    The other direction is the same call with the two sets swapped; see `cross_retrieval`.

    Args:
        queries: (N, D) numbers; a zero row is an absent item, which is no query.
        candidates: (M, D); a zero row is no candidate.
        labels: (N,) of the queries: candidates of the same label are relevant. None: row i belongs
            to row i.
        candidate_labels: (M,); those of the queries when None.
        ks: of the recalls.
        chunk: queries at a time; memory is about 32 bytes x chunk x M beside the embeddings.

    Returns:
        The figures, and the numbers of `queries` that have a relevant candidate, and of
        `candidates`.

    Raises:
        ValueError: shapes or labels that do not fit, or no query with a relevant candidate.
    """
    queries, candidates = _embeddings("queries", queries), _embeddings("candidates", candidates)
    labels, other = _labels(len(queries), len(candidates), labels, candidate_labels)
    chunk = checks.whole("chunk", chunk)
    ks = tuple(checks.whole("k", k) for k in ks)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            "Queries and candidates must be embedded in one space. Received: widths "
            f"{queries.shape[1]} and {candidates.shape[1]}."
        )
    there = candidates.any(axis=1)
    candidates, other = candidates[there], other[there]
    asked = queries.any(axis=1) & np.isin(labels, other)
    if not asked.any():
        raise ValueError(
            "At least one query must have a relevant candidate. Received: "
            f"{len(queries)} queries, of which {int(queries.any(axis=1).sum())} are there, and "
            f"{len(candidates)} candidates, none of the same label."
        )
    queries, labels = queries[asked], labels[asked]
    discount = 1.0 / np.log2(2.0 + np.arange(len(candidates)))
    ideal = np.cumsum(discount)
    first, gains = [], []
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        relevant = labels[part, None] == other[None, :]
        order = np.lexsort((relevant, -(queries[part] @ candidates.T)), axis=1)
        found = np.take_along_axis(relevant, order, axis=1)
        first.append(found.argmax(axis=1) + 1)
        gains.append((found @ discount) / ideal[relevant.sum(axis=1) - 1])
    first = np.concatenate(first)
    return {
        **{f"recall_at_{k}": float((first <= k).mean()) for k in ks},
        "median_rank": float(np.median(first)),
        "mrr": float((1.0 / first).mean()),
        "ndcg": float(np.concatenate(gains).mean()),
        "queries": len(queries),
        "candidates": len(candidates),
    }


def cross_retrieval(
    model: keras.Model,
    dataset: Iterable,
    *,
    target: str | None = None,
    output: str | None = None,
    ks: Sequence[int] = (1, 5, 10),
    chunk: int = 256,
) -> dict[tuple[str, str], dict[str, float]]:
    """Returns (queries, candidates) -> figures of `retrieval`, for all pairs and both directions.

    The set is streamed: one batch is held at a time, and of N rows the embeddings of M modalities,
    4 N M D bytes; then what `retrieval` holds. A row without one of the modalities is no query,
    or no candidate.

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        dataset: batches in order, such as `data.valid(256)`.
        target: int target whose equal rows belong together; None, or where a row has no label:
            each row belongs to itself.
        output: name of the objective; the only one when None.
        ks, chunk: of `retrieval`.

    >>> cross_retrieval(model, data.valid(256))["image", "text"]["recall_at_1"]  # doctest: +SKIP
    0.25
    """
    output = objective_of(model, output).name
    labels: list[np.ndarray] = []

    def batches() -> Iterable:
        for batch in dataset:
            if target is not None:
                y = keras.utils.unpack_x_y_sample_weight(batch)[1]
                known, own = np.asarray(y[target]), -1 - sum(map(len, labels))
                alone = own - np.arange(len(known))  # below all labels
                labels.append(np.where(y.get(f"{target}_mask", True), known, alone))
            yield batch

    held = embeddings(model, batches(), output)
    given = {"labels": np.concatenate(labels) if labels else None, "ks": ks, "chunk": chunk}
    return {
        (a, b): retrieval(held[a], held[b], **given) for a, b in itertools.permutations(held, 2)
    }


def _embeddings(name: str, values: Any) -> np.ndarray:
    values = np.asarray(values, "float32")
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` must be finite numbers of shape (N, D). Received: shape {values.shape}"
            f"{'' if values.ndim != 2 else ', some not finite'}."
        )
    return values


def _labels(count: int, other: int, labels: Any, candidates: Any) -> tuple:
    labels = np.arange(count) if labels is None else np.asarray(labels)
    if candidates is None:
        candidates = labels
    candidates = np.asarray(candidates)
    if labels.shape != (count,) or candidates.shape != (other,):
        raise ValueError(
            "Every row needs one label: (N,) for the queries, (M,) for the candidates. Received: "
            f"{labels.shape} for {count} and {candidates.shape} for {other} rows."
        )
    return labels, candidates
