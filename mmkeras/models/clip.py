"""CLIP and SigLIP: towers that embed their modalities in one space."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkeras.core import Modality
from mmkeras.objectives import Contrastive


def clip(
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any] | None = None,
    *,
    dim: int = 64,
    head: str = "match",
    precision: Mapping[str, str] | None = None,
    name: str = "clip",
    **objective: Any,
) -> keras.Model:
    """Returns a model that brings what belongs together near each other (Radford et al. 2021).

    A tower per modality: encoder, mean over its tokens, projection without bias, unit length.
    The loss is the symmetric InfoNCE of the batch with a learned, clamped temperature, over every
    pair of modalities (arXiv 2103.00020 has two); a sample takes part with the modalities that it
    has. It is `mk.assemble` with `mk.objectives.Contrastive` as the only head, and compiled,
    trained, saved and exported as any other model. Batches are what negatives come from: take
    large ones (`accumulate_steps` keeps them within memory).

    Deviations: the mean of the tokens in place of the last token's state or attention pooling.

    LiT (Zhai et al. 2022, arXiv 2111.07991) is this with a locked tower, whose features are
    computed once:

        image = mk.training.pooled(trained_encoder)
        image.trainable = False
        cached = mk.training.cache_features(image, data, "image")
        passed = {"name": "mlp", "num_layers": 0, "hidden_dim": image.output["tokens"].shape[-1]}
        light = mk.models.clip(cached.modalities, {"image": passed})
        ... # light.compile(), light.fit(cached.train(512), epochs=20)
        model = mk.models.clip(data.modalities, {"image": image})  # from pictures
        for layer in ("text_lstm", "match"):
            model.get_layer(layer).set_weights(light.get_layer(layer).get_weights())

    Args:
        modalities: name -> adapted spec (`data.modalities`), two or more.
        encoders: as of `mk.assemble`; a frozen `keras.Model` is a locked tower.
        dim: width of the common space.
        head: name of the output, and of the target that names positives where the data has one.
        precision: as of `mk.assemble`.
        name: of the model.
        **objective: `loss`, `scale`, `max_scale`, `learn_scale`, `margin`, `negatives`, `tile` of
            `mk.objectives.Contrastive`.

    Returns:
        A model with the output `head`, (B, M, dim) float32: unit vectors, zero where a modality
        is absent. See `mk.evaluation` for what is done with them: `embeddings`, `embed`,
        `zero_shot`, `nearest`, `retrieve`, `cross_retrieval`.

    Raises:
        ValueError, TypeError: as of `mk.assemble` and `mk.objectives.Contrastive`.

    >>> import mmkeras as mk
    >>> spec = {"image": mk.Image(size=32), "numbers": mk.Vector(size=3, normalize=False)}
    >>> mk.models.clip(spec, dim=16).output["match"].shape
    (None, 2, 16)
    """
    from mmkeras.assembly import assemble  # which imports this package

    heads = {head: Contrastive(dim, **objective)}
    return assemble(modalities, encoders, heads=heads, precision=precision, name=name)


def siglip(
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any] | None = None,
    *,
    name: str = "siglip",
    **arguments: Any,
) -> keras.Model:
    """`clip` with the pairwise sigmoid loss and its bias (Zhai et al. 2023, arXiv 2303.15343).

    Every pair of a batch is judged by itself, so that small batches do better than with InfoNCE.
    Arguments and return as of `clip`.
    """
    return clip(modalities, encoders, name=name, **{"loss": "siglip", **arguments})
