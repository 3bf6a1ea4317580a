"""A transformer encoder cut in two after its positions, and encoders taken out of a model.

heads = {"patches": mk.objectives.MaskedPatches("image")}
model = mk.assemble(data.modalities, {"image": "vit"}, heads=heads)
...
encoder = mk.encoders.of(model, "image")  # a copy with its weights
tuned = mk.assemble(data.modalities, {"image": encoder}, heads={"label": ...})
"""

from collections.abc import Iterator
from typing import Any

import keras

from mmkeras.layers import TransformerBlock, ZeroMasked


def halves(name: str, encoder: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Returns `(stem, trunk)`, which share the encoder's layers.

    Args:
        name: of the modality.
        encoder: with layers of these names: patches and positions, blocks, a norm ('vit').

    Returns:
        Stem: `{name, name_mask}` to `{"embedded": (B, T, D), "mask": (B, T)}`. Trunk: from these,
        of any length, to the tokens (B, T, D).

    Raises:
        ValueError: an encoder of another form.
    """
    layers = {layer.name: layer for layer in encoder.layers}
    needed = [f"{name}_{part}" for part in ("patches", "positions", "block0", "norm")]
    missing = [part for part in needed if part not in layers]
    if missing:
        raise ValueError(
            f"The encoder of {name!r} must be a vision transformer, of which a part of the patches "
            f"can be left out. Received: {encoder.name!r}, without the layers {missing}. Take "
            f"encoders={{{name!r}: 'vit'}}."
        )
    embedded, mask = layers[f"{name}_positions"].output, encoder.output["mask"]
    made = {"embedded": embedded, "mask": mask}
    stem = keras.Model(encoder.input, made, name=f"{encoder.name}_stem")
    x = keras.Input((None, embedded.shape[-1]), name="embedded")
    here = keras.Input((None,), dtype="bool", name="mask")
    given, after = {"embedded": x, "mask": here}, layers.get(f"{name}_dropout")
    x = after(x) if after is not None else x
    for layer in encoder.layers:
        x = layer(x, here) if isinstance(layer, TransformerBlock) else x
    x = ZeroMasked(name=f"{name}_tokens")(layers[f"{name}_norm"](x), here)
    return stem, keras.Model(given, x, name=f"{encoder.name}_trunk")


def of(model: keras.Model, name: str) -> keras.Model:
    """Returns a copy of the encoder of a modality, to be given to `assemble(encoders={...})`.

    Args:
        model: assembled, trained or loaded.
        name: of the modality.

    Raises:
        ValueError: the model has no encoder of that modality.
    """
    found = {tuple(part.output): part for part in _of_modality(model, name)}
    encoder = found.get(("tokens", "mask")) or found.get(("mask", "tokens"))
    stem = found.get(("embedded", "mask")) or found.get(("mask", "embedded"))
    if encoder is None and stem is not None:
        encoder = _whole(stem, model.get_layer(stem.name.removesuffix("_stem") + "_trunk"))
    if encoder is None:
        known = sorted(key.removesuffix("_mask") for key in model.input if key.endswith("_mask"))
        raise ValueError(
            f"The model {model.name!r} must have an encoder of {name!r}. It has the modalities "
            f"{known}. Name one of them that is not read as raw features."
        )
    copy = keras.Model.from_config(encoder.get_config())
    copy.set_weights(encoder.get_weights())
    return copy


def _of_modality(model: keras.Model, name: str) -> Iterator[keras.Model]:
    """The models in a model that read a modality and nothing else, raw units left out."""
    for part in model.layers:
        given = getattr(part, "input", None) if isinstance(part, keras.Model) else None
        if isinstance(given, dict) and set(given) == {name, f"{name}_mask"}:
            if part.name != f"{name}_raw":
                yield part


def _whole(stem: keras.Model, trunk: keras.Model) -> keras.Model:
    x: Any = stem.output["embedded"]
    mask = stem.output["mask"]
    for layer in trunk.layers:
        if isinstance(layer, TransformerBlock | ZeroMasked):
            x = layer(x, mask)
        elif not isinstance(layer, keras.layers.InputLayer):
            x = layer(x)
    name = stem.name.removesuffix("_stem")
    return keras.Model(stem.input, {"tokens": x, "mask": mask}, name=name)
