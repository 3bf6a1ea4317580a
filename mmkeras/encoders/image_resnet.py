"""Residual networks over pictures."""

from typing import Any

import keras

from mmkeras.core import Image
from mmkeras.encoders.base import ScalePixels, begin, check_size, end_grid, sizes_of
from mmkeras.encoders.convolution import image_conv

_STEM = {"stem_kernel": 7, "stem_pool": True}
VARIANTS = {
    "small": {
        "filters": (16, 32, 64),
        "depths": (1, 1, 1),
        "bottleneck": False,
        "stem_kernel": 3,
        "stem_pool": False,
    },
    "18": {"filters": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "bottleneck": False, **_STEM},
    "34": {"filters": (64, 128, 256, 512), "depths": (3, 4, 6, 3), "bottleneck": False, **_STEM},
    "50": {"filters": (64, 128, 256, 512), "depths": (3, 4, 6, 3), "bottleneck": True, **_STEM},
    "101": {"filters": (64, 128, 256, 512), "depths": (3, 4, 23, 3), "bottleneck": True, **_STEM},
    "152": {"filters": (64, 128, 256, 512), "depths": (3, 8, 36, 3), "bottleneck": True, **_STEM},
}


def image_resnet(
    name: str, modality: Image, *, variant: str = "small", dropout: float = 0.0, **sizes: Any
) -> keras.Model:
    """A residual network (He et al. 2016, table 1), v1.5.

    v1.5 has the stride of a bottleneck in its 3x3 convolution instead of its first 1x1.
    Deviation: group instead of batch normalisation (see `image_cnn`); no classifier.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Image` of H x W x C, each side at least the total stride.
        variant: a key of `VARIANTS`; "small" has one block in each of three stages behind a 3x3
            stem.
        dropout: spatial dropout rate after the last stage.
        **sizes: in place of the variant's: `filters` and `depths` (number of blocks) of each
            stage, `bottleneck`, `stem_kernel` (its stride is 2), `stem_pool` (3x3, stride 2).

    Returns:
        Functional model to tokens (B, T, D), T = H / S * W / S rounded up at every halving, with
        learned positions, and the mask (B, T). S is 8 for "small", 32 for the others.
    """
    size = sizes_of(VARIANTS, variant, sizes)
    filters = size["filters"]
    stride = 2 ** (len(filters) + size["stem_pool"])
    check_size(name, modality.size, stride, "Take the variant 'small', or fewer stages.")
    inputs, pixels, present = begin(name, modality)
    x = ScalePixels(name=f"{name}_scale")(pixels)
    x = image_conv(x, filters[0], size["stem_kernel"], strides=2, name=f"{name}_stem")
    if size["stem_pool"]:
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_stem_pool")(x)
    for stage, (width, depth) in enumerate(zip(filters, size["depths"], strict=True)):
        for block in range(depth):
            strides = 2 if stage and not block else 1
            x = _block(x, width, strides, size["bottleneck"], f"{name}_stage{stage}_block{block}")
    return end_grid(name, "resnet", inputs, x, present, dropout)


def _block(x: Any, width: int, strides: int, bottleneck: bool, name: str) -> Any:
    """The block's branch, added to its input (projected where the shape changes), then ReLU."""
    if bottleneck:
        out = 4 * width
        y = image_conv(x, width, 1, name=f"{name}_a")
        y = image_conv(y, width, 3, strides=strides, name=f"{name}_b")
        y = image_conv(y, out, 1, relu=False, name=f"{name}_c")
    else:
        out = width
        y = image_conv(x, width, 3, strides=strides, name=f"{name}_a")
        y = image_conv(y, width, 3, relu=False, name=f"{name}_b")
    if strides > 1 or x.shape[-1] != out:
        x = image_conv(x, out, 1, strides=strides, relu=False, name=f"{name}_skip")
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([x, y]))
