"""The embeddings of a model: what its fusion reads of every modality, and what it returns."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mmkeras.fusion import Fusion, HybridFusion
from mmkeras.layers import masked_mean
from mmkeras.objectives import Contrastive


def embedder(model: keras.Model) -> Callable[[dict], dict] | None:
    """Returns inputs -> embeddings, or None for a model without fusion and contrastive objective.

    `<modality>`: (B, D_m), the mean of the tokens that are there as the fusion reads them, after
    encoder and alignment (of raw features where nothing else is fused); zero where the modality is
    absent. `fused`: (B, D), what the fusion makes of all for the heads (`pooled`). The output of a
    `mk.objectives.Contrastive` comes under its name: (B, M, D), of unit length.
    """
    spaces = [layer for layer in model.layers if isinstance(layer, Contrastive)]
    fusions = [layer for layer in model.layers if isinstance(layer, Fusion)]
    fusions.sort(key=lambda layer: layer.name == "fusion_features")  # it reads no encoder
    if not fusions and not spaces:
        return None
    reader = (fusions or spaces)[0]
    like = {name: {"mask": 0, "tokens": 0} for name in reader.modalities}
    read = keras.tree.pack_sequence_as(like, keras.tree.flatten(reader.input))
    said = {layer.name: layer.output for layer in spaces}
    hybrid = [layer for layer in model.layers if isinstance(layer, HybridFusion)]
    for layer in (hybrid or fusions)[:1]:
        _, said["fused"], _ = keras.tree.flatten(layer.output)  # mask, pooled, tokens
    inner = keras.Model(model.input, {"read": read, "said": said})

    def embed(x: dict[str, Any]) -> dict[str, Any]:
        made = inner(x, training=False)
        out = {name: masked_mean(**part) for name, part in made["read"].items()} | made["said"]
        return {name: tf.cast(value, tf.float32) for name, value in out.items()}

    return embed
