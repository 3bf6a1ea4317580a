"""Embeddings of a whole set, and classes described by sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from mmkeras.core import Modality
from mmkeras.core.identifiers import nearest
from mmkeras.data import decoder
from mmkeras.objectives import Contrastive


def embeddings(model: keras.Model, dataset: Iterable, output: str) -> dict[str, np.ndarray]:
    """Returns modality -> (N, D) float32 of a contrastive output, zero where it is absent.

    Args:
        model: with a `mk.objectives.Contrastive` named `output`.
        dataset: batches `x` or `(x, y)`, in order, such as `data.valid(256)`.
        output: name of the objective.
    """
    names = objective_of(model, output).modalities
    batches = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in dataset)
    held = np.concatenate([np.asarray(model.predict_on_batch(x)[output]) for x in batches])
    return {name: held[:, i] for i, name in enumerate(names)}


def described(
    model: keras.Model,
    modality: Modality,
    name: str,
    output: str,
    classes: Sequence[str],
    templates: Sequence[str] = ("{}",),
) -> np.ndarray:
    """Returns the classes as vectors of the common space, (C, D) float32, of unit length.

    Each is the mean of the embeddings of its sentences, as CLIP's zero-shot classifier has it
    (Radford et al. 2021, arXiv 2103.00020, 3.1.4). A picture's class is the largest product:

        vectors = described(model, data.modalities["text"], "text", "match", classes, templates)
        said = (embeddings(model, data.valid(256), "match")["image"] @ vectors.T).argmax(axis=1)

    Args:
        model: with a `mk.objectives.Contrastive` named `output`.
        modality: the adapted `mk.Text`, of `data.modalities`.
        name: of the modality in the model.
        output: name of the objective.
        classes: as they stand in the sentences.
        templates: sentences with `{}` where the class stands.

    Raises:
        ValueError: a template without a place, or a class none of whose sentences has a known
            word.
    """
    names = objective_of(model, output).modalities
    if name not in names:
        raise ValueError(f"{output!r} has no modality {name!r}. {nearest(name, names)}")
    for template in templates:
        if "{}" not in template:
            raise ValueError(
                f"A template must hold {{}} where the class stands. Received: {template!r}, "
                "instead of e.g. 'a picture of {}'."
            )
    sentences = [template.replace("{}", str(c)) for c in classes for template in templates]
    value, mask = decoder(modality)(np.array(sentences))
    x = _absent(model.input, len(sentences)) | {name: value, f"{name}_mask": mask}
    found = np.asarray(model.predict_on_batch(x)[output])[:, names.index(name)]
    means = found.reshape(len(classes), len(templates), -1).mean(axis=1)
    length = np.linalg.norm(means, axis=1, keepdims=True)
    if not length.all():
        empty = [c for c, n in zip(classes, length, strict=True) if not n]
        raise ValueError(
            f"Every class needs a sentence with a word in it. Received none for {empty}."
        )
    return means / length


def objective_of(model: keras.Model, output: str) -> Contrastive:
    """Returns the contrastive objective of a name, or raises ValueError."""
    found = [layer for layer in model.layers if isinstance(layer, Contrastive)]
    for layer in found:
        if layer.name == output:
            return layer
    known = [layer.name for layer in found]
    raise ValueError(
        f"The model has no contrastive objective {output!r}. It has {known}. Give it one among "
        "the heads: mk.objectives.Contrastive()."
    )


def _absent(inputs: Mapping[str, Any], rows: int) -> dict[str, np.ndarray]:
    """Returns inputs in which every modality is absent."""
    shapes = {key: (rows, *(n or 1 for n in tensor.shape[1:])) for key, tensor in inputs.items()}
    return {key: np.zeros(shapes[key], inputs[key].dtype) for key in inputs}
