"""Several depths of an encoder beside its tokens, for a multi-scale alignment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from mmkeras.core import Modality
from mmkeras.core.identifiers import nearest
from mmkeras.encoders.base import GridMask


def levels(encoder: Any, layers: Sequence[str]) -> Callable[[str, Modality], keras.Model]:
    """Returns an encoder that also gives the outputs of some of its layers.

    Args:
        encoder: as in `assemble(encoders={...})`: name, dict, callable or model.
        layers: names of inner layers without the modality's prefix, e.g. `("relu1", "relu2")` of
            an image `cnn`, `("block0", "block1")` of a `transformer`.

    Returns:
        A callable `(name, modality)` to a model whose output has, besides `tokens` and `mask`,
        `levels`: layer -> `{"tokens": (B, T_i, D_i), "mask": (B, T_i)}`, which
        `assemble(alignment="multi_scale")` projects into one space together with the tokens.
        Other alignments and the fusions leave it out.

    Raises:
        ValueError: no such layer, or one whose output has no mask of its length.

    >>> import mmkeras as mk
    >>> deep = mk.encoders.levels("cnn", ("relu1", "relu3"))
    >>> found = deep("photo", mk.Image(size=32)).output["levels"]
    >>> {layer: tuple(level["tokens"].shape) for layer, level in found.items()}
    {'relu1': (None, 64, 32), 'relu3': (None, 4, 64)}
    """

    def make(name: str, modality: Modality) -> keras.Model:
        from mmkeras import encoders

        model = encoders.get(encoder, name, modality)
        known = {layer.name.removeprefix(f"{name}_"): layer for layer in model.layers}
        for layer in layers:
            if layer not in known:
                raise ValueError(
                    f"`layers` must name layers of the encoder of {name!r}. Received: {layer!r}. "
                    f"{nearest(layer, known)}"
                )
        masks = [model.input[f"{name}_mask"], *_masks(model)]
        return with_levels(
            model,
            {layer: _level(f"{name}_{layer}", known[layer].output, masks) for layer in layers},
        )

    return make


def with_levels(model: keras.Model, found: Mapping[str, tuple[Any, Any]]) -> keras.Model:
    """Returns the encoder with `levels` in its output, from tokens and mask by layer."""
    held = {name: {"tokens": tokens, "mask": mask} for name, (tokens, mask) in found.items()}
    return keras.Model(model.input, {**model.output, "levels": held}, name=model.name)


def _masks(model: keras.Model) -> list:
    outputs = keras.tree.flatten([layer.output for layer in model.layers])
    return [x for x in outputs if x.dtype == "bool" and len(x.shape) == 2]


def _level(name: str, output: Any, masks: list) -> tuple[Any, Any]:
    """Tokens and mask of a layer's output; the grid of a picture is laid out in rows."""
    picture = len(masks[0].shape) == 1
    if len(output.shape) == 4:
        height, width, depth = output.shape[1:]
        shape = (height * width, depth) if picture else (height, width * depth)
        output = keras.layers.Reshape(shape, name=f"{name}_level")(output)
    length = output.shape[1] if len(output.shape) == 3 else None
    for mask in masks[1:] if picture else masks:
        if mask.shape[1] == length:
            return output, mask
    if not picture or length is None:
        raise ValueError(
            f"A level must be a sequence (B, T, D) for which the encoder has a mask (B, T). "
            f"Received: {name!r} of shape {tuple(output.shape)}. Name another layer."
        )
    return output, GridMask(length, name=f"{name}_level_mask")(masks[0])
