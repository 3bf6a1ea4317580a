"""The convolutional stages that the encoders share."""

from typing import Any

import keras

from mmkeras.encoders.base import PadSteps, PoolMask
from mmkeras.layers import MaskedGroupNorm, groups_of


def image_conv(
    x: Any, filters: int, kernel_size: int = 3, *, strides: int = 1, relu: bool = True, name: str
) -> Any:
    """Convolution, group normalisation and perhaps ReLU over a picture (B, H, W, C)."""
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = keras.layers.GroupNormalization(groups_of(filters), name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def masked_conv(
    x: Any,
    mask: Any,
    filters: int,
    kernel_size: int = 3,
    *,
    strides: int = 1,
    pool: int | tuple[int, int] = 1,
    name: str,
) -> tuple[Any, Any]:
    """Convolution, masked group normalisation, ReLU and max pooling over a sequence.

    Args:
        x: (B, T, C), or (B, T, F, C) whose bands F are always real; zero behind the mask.
        mask: bool (B, T).
        filters, kernel_size: of the convolution.
        strides: of the convolution, along all its axes.
        pool: of the pooling; (time, bands) may differ.
        name: prefix of the layers.

    Returns:
        `(x, mask)`: T / strides / pool, each rounded up; zero behind the mask. A step is real
        where any step that it covers is.
    """
    two = len(x.shape) == 4
    x = x if strides == 1 else PadSteps(strides, name=f"{name}_pad")(x)
    x = (keras.layers.Conv2D if two else keras.layers.Conv1D)(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    mask = _pooled(mask, strides, f"{name}_mask")
    x = MaskedGroupNorm(groups_of(filters), name=f"{name}_norm")(x, mask)
    x = keras.layers.ReLU(name=f"{name}_relu")(x)
    steps = pool[0] if isinstance(pool, tuple) else pool
    if pool in (1, (1, 1)):
        return x, mask
    # What is masked is zero and the rest is not below it, so that a maximum is one of real steps.
    x = PadSteps(steps, name=f"{name}_pool_pad")(x)
    layer = keras.layers.MaxPooling2D if two else keras.layers.MaxPooling1D
    x = layer(pool, padding="same", name=f"{name}_pool")(x)
    return x, _pooled(mask, steps, f"{name}_pool_mask")


def _pooled(mask: Any, stride: int, name: str) -> Any:
    return mask if stride == 1 else PoolMask(stride, name=name)(mask)
