"""The convolution that the encoders of video share."""

from typing import Any

import keras

from mmkeras.encoders.base import PoolMask
from mmkeras.layers import MaskedGroupNorm, MaxPool3D, groups_of


def video_conv(
    x: Any,
    mask: Any,
    filters: int,
    kernel: tuple[int, int, int],
    *,
    strides: tuple[int, int, int] = (1, 1, 1),
    pool: int = 1,
    relu: bool = True,
    name: str,
) -> tuple[Any, Any]:
    """3-D convolution, max pooling over space, group normalisation of the real frames, ReLU.

    Args:
        x: (B, N, H, W, C), zero behind the mask.
        mask: bool (B, N).
        filters, kernel, strides: of the convolution; time, height, width.
        pool: of height and width; before the norm, which then works on fewer positions.
        relu: whether there is one.
        name: prefix of the layers.

    Returns:
        `(x, mask)`: zero behind the mask. A step is real where any frame under its stride is.
    """
    x, mask = whole_strides(x, mask, strides[0], name)
    x = keras.layers.Conv3D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    if pool > 1:
        x = MaxPool3D((1, pool, pool), name=f"{name}_pool")(x)
    x = MaskedGroupNorm(groups_of(filters), name=f"{name}_norm")(x, mask)
    return (keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x), mask


def whole_strides(x: Any, mask: Any, stride: int, name: str) -> tuple[Any, Any]:
    """Appends empty frames up to a multiple of the stride; returns `(x, mask of the strides)`."""
    if stride == 1:
        return x, mask
    pad = -x.shape[1] % stride
    if pad:
        x = keras.layers.ZeroPadding3D(((0, pad), (0, 0), (0, 0)), name=f"{name}_pad")(x)
    return x, PoolMask(stride, name=f"{name}_mask")(mask)
