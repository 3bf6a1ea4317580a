"""What every encoder function begins and ends with."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import Modality, checks, register
from mmkeras.core.identifiers import nearest
from mmkeras.layers import LearnedPositions, ZeroMasked


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


def end_grid(
    name: str, kind: str, inputs: dict, x: Any, present: Any, dropout: float = 0.0
) -> keras.Model:
    """Returns the model of a picture's feature map (B, H, W, D): H * W tokens with positions."""
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(x)
    num_tokens = x.shape[1] * x.shape[2]
    tokens = keras.layers.Reshape((num_tokens, x.shape[-1]), name=f"{name}_grid")(x)
    tokens = LearnedPositions(num_tokens, name=f"{name}_positions")(tokens)
    mask = GridMask(num_tokens, name=f"{name}_grid_mask")(present)
    return end(name, kind, inputs, tokens, mask)


def check_size(name: str, size: tuple[int, int], stride: int, advice: str) -> None:
    """Raises unless a picture of `size` is at least `stride` pixels on each side."""
    if min(size) < stride:
        raise ValueError(
            f"A picture of {size} is too small for the encoder of {name!r}: each side must be at "
            f"least {stride} pixels. {advice}"
        )


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


@register
class PadSteps(keras.layers.Layer):
    """Appends zeros up to a whole number of strides, so that windows begin where the mask's do.

    (B, T, ...) -> (B, ceil(T / stride) * stride, ...).

    Args:
        stride: of the layer that follows.
    """

    def __init__(self, stride: int, **kwargs: Any) -> None:
        """Stores the stride."""
        super().__init__(**kwargs)
        self.stride = checks.whole("stride", stride)

    def call(self, x: Any) -> Any:
        """Returns the longer sequence."""
        return ops.pad(x, ((0, 0), (0, -x.shape[1] % self.stride), *[(0, 0)] * (len(x.shape) - 2)))

    def compute_output_shape(self, x_shape: tuple) -> tuple:
        """T becomes a multiple of the stride."""
        batch, steps, *rest = x_shape
        return (batch, steps + -steps % self.stride, *rest)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "stride": self.stride}


@register
class SegmentIds(keras.layers.Layer):
    """Number of the segment of each token: how many separators stand before it.

    Args:
        segments: number of segments; what follows the last counts to it.
        separator: id of the separator, which belongs to the segment that it ends.

    Call arguments: int (B, L). Returns int32 (B, L) below `segments`.
    """

    def __init__(self, segments: int, separator: int, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(autocast=False, **kwargs)
        self.segments = checks.whole("segments", segments)
        self.separator = checks.whole("separator", separator, 0)

    def call(self, ids: Any) -> Any:
        """Returns the numbers."""
        ends = ops.cast(ops.equal(ids, self.separator), "int32")
        return ops.minimum(ops.cumsum(ends, axis=1) - ends, self.segments - 1)

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        """(B, L) int32."""
        return keras.KerasTensor(ids.shape, "int32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "segments": self.segments, "separator": self.separator}
