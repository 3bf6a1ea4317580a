"""Nearest neighbours among embeddings: exact in NumPy, through scikit-learn or through faiss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mmkeras.core import Modality, checks
from mmkeras.evaluation.embeddings import embed

CHUNK = 256
"""Queries that NumPy compares at a time."""

Search = Callable[[Any, int], tuple[np.ndarray, np.ndarray]]


def nearest(candidates: Any, *, library: str = "numpy") -> Search:
    """Returns an index: `search(queries, k)` -> rows (N, k) int64, similarities (N, k) float32.

    The rows are those of the `candidates` with the largest dot products, best first; all
    libraries search exactly and agree, but for the order of equal similarities.

        search = nearest(embeddings(model, data.valid(256))["image"])
        rows, similarity = search(embed(model, data.modalities, {"text": ["a red car"]})["text"], 5)

    Args:
        candidates: (M, D), of unit length; a zero row is an absent item and is never found.
        library: "numpy" (about 16 x 256 M bytes while it searches), "scikit-learn"
            (`NearestNeighbors`) or "faiss" (`IndexFlatIP`); the last two need
            `pip install 'mmkeras[index]'`.

    `search` takes queries (N, D), of unit length; of a zero row, an absent query, the rows are -1
    and the similarities NaN. k is at most the number of candidates that are there.

    Raises:
        ValueError: other shapes or lengths, or no candidate, or too large a k.
        ImportError: the library is not there.
    """
    checks.one_of("library", library, BUILDERS)
    candidates = _units("candidates", candidates)
    held = np.flatnonzero(candidates.any(axis=1))
    if not len(held):
        raise ValueError("An index needs a candidate that is there. Received: none.")
    found = BUILDERS[library](candidates[held])

    def search(queries: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
        queries, k = _units("queries", queries), checks.whole("k", k)
        if k > len(held) or queries.shape[1] != candidates.shape[1]:
            raise ValueError(
                f"A search needs k of at most {len(held)} and queries of width "
                f"{candidates.shape[1]}. Received: k={k}, width {queries.shape[1]}."
            )
        asked = queries.any(axis=1)
        rows = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), np.nan, np.float32)
        if asked.any():
            nearest_rows, similarities[asked] = found(queries[asked], k)
            rows[asked] = held[nearest_rows]
        return rows, similarities

    return search


def retrieve(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    queries: Mapping[str, Sequence],
    index: Search,
    k: int = 5,
    *,
    output: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and similarities of the k nearest in an index, of raw items of one modality.

        index = nearest(embeddings(model, data.valid(256))["image"])
        rows, similarity = retrieve(model, data.modalities, {"text": ["a red car"]}, index)

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        modalities: the adapted specs that it was trained with (`data.modalities`).
        queries: one modality -> raw items; see `embed`.
        index: of `nearest`, of embeddings of the same model.
        k: how many.
        output: name of the objective; the only one when None.
    """
    if len(queries) != 1:
        raise ValueError(f"`queries` must hold one modality. Received: {list(queries)}.")
    (vectors,) = embed(model, modalities, queries, output=output).values()
    return index(vectors, k)


def _units(name: str, values: Any) -> np.ndarray:
    values = np.ascontiguousarray(values, "float32")
    lengths = np.linalg.norm(values, axis=-1) if values.ndim == 2 else np.array([np.nan])
    if not ((np.abs(lengths - 1) < 1e-3) | (lengths == 0)).all():
        raise ValueError(
            f"`{name}` must be (N, D) vectors of unit length, or zero where absent. Received: "
            f"shape {values.shape}, lengths up to {np.max(lengths, initial=0):g}. Divide each by "
            "its length."
        )
    return values


def _numpy(candidates: np.ndarray) -> Search:
    def found(queries: np.ndarray, k: int) -> tuple:
        parts = [part(queries[i : i + CHUNK], k) for i in range(0, len(queries), CHUNK)]
        return tuple(np.concatenate(each) for each in zip(*parts, strict=True))

    def part(queries: np.ndarray, k: int) -> tuple:
        similarities = queries @ candidates.T
        rows = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        kept = np.take_along_axis(similarities, rows, axis=1)
        order = np.argsort(-kept, axis=1, kind="stable")
        return tuple(np.take_along_axis(x, order, axis=1) for x in (rows, kept))

    return found


def _scikit_learn(candidates: np.ndarray) -> Search:
    try:
        from sklearn.neighbors import NearestNeighbors
    except ImportError as error:
        raise ImportError("This index needs scikit-learn: pip install 'mmkeras[index]'.") from error
    fitted = NearestNeighbors(metric="cosine", algorithm="brute").fit(candidates)

    def found(queries: np.ndarray, k: int) -> tuple:
        distances, rows = fitted.kneighbors(queries, k)
        return rows, 1 - distances

    return found


def _faiss(candidates: np.ndarray) -> Search:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("This index needs faiss: pip install 'mmkeras[index]'.") from error
    flat = faiss.IndexFlatIP(candidates.shape[1])
    flat.add(candidates)

    def found(queries: np.ndarray, k: int) -> tuple:
        similarities, rows = flat.search(queries, k)
        return rows, similarities

    return found


BUILDERS = {"numpy": _numpy, "scikit-learn": _scikit_learn, "faiss": _faiss}
