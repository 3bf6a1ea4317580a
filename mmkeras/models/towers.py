"""One tower of a contrastive model by itself: for an index, a service, a classifier."""

import keras

from mmkeras.alignment import Alignment
from mmkeras.core.identifiers import nearest
from mmkeras.layers import MeanToken
from mmkeras.objectives import Contrastive


def tower(model: keras.Model, modality: str, output: str | None = None) -> keras.Model:
    """Returns what embeds one modality, with the weights of the model itself (no copies).

    `mk.export.saved_model(tower(model, "image"), {"image": data.modalities["image"]}, path)`
    serves pictures alone.

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        modality: its name.
        output: name of the objective; the only one when None.

    Returns:
        Functional model `{name, name_mask} -> {"embedding": (B, dim) float32}`, of unit length,
        zero where the modality is absent: the numbers of the model's own output.

    Raises:
        ValueError: no such objective or modality, or an alignment between encoders and objective.
    """
    objective = objective_of(model, output)
    if modality not in objective.modalities:
        known = nearest(modality, objective.modalities)
        raise ValueError(f"{objective.name!r} has no modality {modality!r}. {known}")
    aligned = [layer.name for layer in model.layers if isinstance(layer, Alignment)]
    if aligned:
        raise ValueError(
            "A tower must be an encoder that the objective reads as it is. Received: a model with "
            f"{aligned[0]!r} before the objective. Leave `alignment` out: the objective projects."
        )
    inputs = {key: model.input[key] for key in (modality, f"{modality}_mask")}
    read = {name: {"tokens": None, "mask": None} for name in objective.modalities}
    given = keras.tree.pack_sequence_as(read, objective.input)[modality]  # Keras flattens it
    x, _ = MeanToken(name=f"{modality}_pooled", dtype="float32")(given["tokens"], given["mask"])
    x = keras.layers.Flatten(name=f"{modality}_vector", dtype="float32")(x)
    x = objective.projections[modality](x)
    x = keras.layers.UnitNormalization(name="embedding", dtype="float32")(x)
    return type(model)(inputs, {"embedding": x}, name=f"{modality}_tower")


def objective_of(model: keras.Model, output: str | None = None) -> Contrastive:
    """Returns the contrastive objective of a name, or the only one, or raises ValueError."""
    found = {layer.name: layer for layer in model.layers if isinstance(layer, Contrastive)}
    if output in found or output is None and len(found) == 1:
        return found.get(output) or next(iter(found.values()))
    wanted = "one contrastive objective" if output is None else f"the objective {output!r}"
    raise ValueError(
        f"The model must have {wanted}. It has {list(found)}. Name one of them as `output`, or "
        "give it one: mk.models.clip(...)."
    )
