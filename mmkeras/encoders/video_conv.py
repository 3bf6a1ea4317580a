"""What the encoders of video begin with, and the convolution that they share."""

from typing import Any

import keras

from mmkeras.core import Video
from mmkeras.encoders.base import PoolMask, ScalePixels, begin
from mmkeras.layers import CenterFrames, MaskedGroupNorm, MaxPool3D, ZeroMasked, groups_of


def begin_clip(name: str, modality: Video, center: bool = False) -> tuple[dict, Any, Any]:
    """Returns `(inputs, clip in [-1, 1] and zero behind the mask, mask)`.

    Args:
        name: of the modality.
        modality: its spec.
        center: whether every pixel's mean over the real frames is subtracted, so that only what
            moves is left: for clips that differ in their motion more than in what they show.
    """
    inputs, x, mask = begin(name, modality)
    x = ZeroMasked(name=f"{name}_frames")(ScalePixels(name=f"{name}_scale")(x), mask)
    return inputs, CenterFrames(name=f"{name}_center")(x, mask) if center else x, mask


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
