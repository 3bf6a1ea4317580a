"""What every encoder function begins and ends with."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import Modality, checks, register
from mmkeras.core.identifiers import nearest
from mmkeras.layers import ZeroMasked


def sizes_of(variants: Mapping[str, dict], variant: str, given: Mapping[str, Any]) -> dict:
    """Returns the sizes of a variant, those given by name in their place.

    Raises:
        ValueError: the variant, or the name of a size, is not in the table.
    """
    if variant not in variants:
        raise ValueError(f"Unknown variant {variant!r}. {nearest(variant, variants)}")
    for name in given:
        if name not in variants[variant]:
            raise ValueError(
                f"The encoder has no argument {name!r}. {nearest(name, variants[variant])}"
            )
    return {**variants[variant], **given}


def begin(name: str, modality: Modality) -> tuple[dict, Any, Any]:
    """Returns `(inputs, value, mask)`; the value is zero behind a false mask."""
    checks.identifier("A modality's name", name)
    if not modality.adapted:
        raise ValueError(
            f"The modality {name!r} must be adapted before a model is built from it. "
            f"Received: {modality}. Use `data.modalities` of `mk.data.table(...)`, or give its "
            "vocabulary (mean and scale) by hand."
        )
    value = keras.Input(modality.shape, dtype=modality.dtype, name=name)
    mask = keras.Input(modality.mask_shape, dtype="bool", name=f"{name}_mask")
    inputs = {name: value, f"{name}_mask": mask}
    return inputs, ZeroMasked(name=f"{name}_zero_masked")(value, mask), mask


def end(name: str, kind: str, inputs: dict, tokens: Any, mask: Any) -> keras.Model:
    """Returns the Functional model, tokens zeroed behind the mask."""
    tokens = ZeroMasked(name=f"{name}_tokens")(tokens, mask)
    return keras.Model(inputs, {"tokens": tokens, "mask": mask}, name=f"{name}_{kind}")


@register
class ScalePixels(keras.layers.Layer):
    """uint8 0..255 to [-1, 1] in the compute dtype."""

    def __init__(self, **kwargs: Any) -> None:
        """Makes the layer; it has no weights."""
        super().__init__(autocast=False, **kwargs)

    def call(self, pixels: Any) -> Any:
        """Returns pixels / 127.5 - 1."""
        return ops.cast(ops.cast(pixels, "float32") / 127.5 - 1.0, self.compute_dtype)

    def compute_output_spec(self, pixels: Any) -> keras.KerasTensor:
        """The shape stays."""
        return keras.KerasTensor(pixels.shape, self.compute_dtype)


@register
class GridMask(keras.layers.Layer):
    """Spreads a picture's mask (B,) over its grid of tokens: (B, T)."""

    def __init__(self, num_tokens: int, **kwargs: Any) -> None:
        """Stores the number of tokens."""
        super().__init__(autocast=False, **kwargs)
        self.num_tokens = checks.whole("num_tokens", num_tokens)

    def call(self, mask: Any) -> Any:
        """Returns the repeated mask."""
        return ops.repeat(mask[:, None], self.num_tokens, axis=1)

    def compute_output_spec(self, mask: Any) -> keras.KerasTensor:
        """(B, T) bool."""
        return keras.KerasTensor((mask.shape[0], self.num_tokens), "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_tokens": self.num_tokens}


@register
class PoolMask(keras.layers.Layer):
    """Mask of a sequence that was pooled by `stride`: true where any pooled position is."""

    def __init__(self, stride: int, **kwargs: Any) -> None:
        """Stores the stride."""
        super().__init__(autocast=False, **kwargs)
        self.stride = checks.whole("stride", stride)

    def call(self, mask: Any) -> Any:
        """Returns bool (B, ceil(T / stride))."""
        length = -(-mask.shape[1] // self.stride)
        mask = ops.pad(mask, ((0, 0), (0, length * self.stride - mask.shape[1])))
        return ops.any(ops.reshape(mask, (-1, length, self.stride)), axis=2)

    def compute_output_spec(self, mask: Any) -> keras.KerasTensor:
        """(B, ceil(T / stride)) bool."""
        return keras.KerasTensor((mask.shape[0], -(-mask.shape[1] // self.stride)), "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "stride": self.stride}
