"""Embeddings of a whole set, and of raw items."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data import decoder
from mmkeras.models import objective_of, tower


def embeddings(
    model: keras.Model, dataset: Iterable, output: str | None = None
) -> dict[str, np.ndarray]:
    """Returns modality -> (N, D) float32 of a contrastive output, zero where it is absent.

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        dataset: batches `x` or `(x, y)`, in order, such as `data.valid(256)`. One batch is held
            at a time; of the set 4 x D bytes per row and modality.
        output: name of the objective; the only one when None.
    """
    objective = objective_of(model, output)
    batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in dataset)
    held = np.concatenate([np.asarray(model.predict_on_batch(x)[objective.name]) for x in batches])
    return {name: held[:, i] for i, name in enumerate(objective.modalities)}


def embed(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    items: Mapping[str, Sequence],
    *,
    output: str | None = None,
    batch_size: int = 256,
) -> dict[str, np.ndarray]:
    """Returns modality -> (N, D) float32 of raw items, zero where one is empty.

        vectors = embed(model, data.modalities, {"text": ["a red car", "a cat"]})["text"]

    Only the towers of the given modalities run.

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        modalities: the adapted specs that it was trained with (`data.modalities`).
        items: modality -> raw items as a serving request holds them (see `data.raw`): texts,
            encoded bytes of a picture, numbers. Numbers of items may differ.
        output: name of the objective; the only one when None.
        batch_size: items at a time.

    Raises:
        ValueError: an unknown modality, or one without items.
    """
    batch_size = checks.whole("batch_size", batch_size)
    found = {}
    for name, held in items.items():
        if name not in modalities:
            raise ValueError(f"Unknown modality {name!r} in `items`. {nearest(name, modalities)}")
        if not len(held):
            raise ValueError(f"`items` must hold one item or more. Received: none of {name!r}.")
        embedder, decode = tower(model, name, output), decoder(modalities[name])
        parts = []
        for start in range(0, len(held), batch_size):
            value, mask = decode(_raw(modalities[name], held[start : start + batch_size]))
            part = embedder.predict_on_batch({name: value, f"{name}_mask": mask})
            parts.append(np.asarray(part["embedding"]))
        found[name] = np.concatenate(parts)
    return found


def _raw(modality: Modality, items: Sequence) -> np.ndarray:
    """Items as a decoder takes them: objects for bytes and texts, else float32."""
    if modality.raw_dtype != "string":
        return np.asarray(items, modality.raw_dtype)
    return np.array([i.encode("utf-8") if isinstance(i, str) else i for i in items], object)
