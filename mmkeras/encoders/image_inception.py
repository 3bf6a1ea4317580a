"""Inception blocks over pictures."""

from typing import Any

import keras

from mmkeras.core import Image
from mmkeras.encoders.base import ScalePixels, begin, check_size, end_grid, sizes_of
from mmkeras.encoders.convolution import image_conv

# A block: 1x1; 3x3 behind its reduction; 5x5 behind its reduction; 1x1 behind the pooling.
VARIANTS = {
    "small": {
        "stem": (16, 16, 24),
        "stages": (((8, 12, 16, 4, 8, 8),), ((16, 16, 32, 4, 8, 8),)),
    },
    "googlenet": {
        "stem": (64, 64, 192),
        "stages": (
            ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
            (
                (192, 96, 208, 16, 48, 64),
                (160, 112, 224, 24, 64, 64),
                (128, 128, 256, 24, 64, 64),
                (112, 144, 288, 32, 64, 64),
                (256, 160, 320, 32, 128, 128),
            ),
            ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
        ),
    },
}


def image_inception(
    name: str, modality: Image, *, variant: str = "small", dropout: float = 0.0, **sizes: Any
) -> keras.Model:
    """GoogLeNet's stem and Inception blocks (Szegedy et al. 2015, table 1).

    Deviations: group normalisation after every convolution, in place of the local response
    normalisation of the stem (the paper has no other); no auxiliary classifiers.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Image` of H x W x C, each side at least the total stride.
        variant: a key of `VARIANTS`.
        dropout: spatial dropout rate after the last stage.
        **sizes: in place of the variant's: `stem`, the channels of its 7x7, 1x1 and 3x3
            convolutions, and `stages`, each a list of blocks of six numbers of channels:
            (1x1, reduction, 3x3, reduction, 5x5, projection of the pooling).

    Returns:
        Functional model to tokens (B, T, D), T = H / S * W / S rounded up at every halving, with
        learned positions, and the mask (B, T). S is 16 for "small", 32 for "googlenet".
    """
    size = sizes_of(VARIANTS, variant, sizes)
    stages = size["stages"]
    advice = "Take the variant 'small', or fewer `stages`."
    check_size(name, modality.size, 2 ** (2 + len(stages)), advice)
    inputs, pixels, present = begin(name, modality)
    x = ScalePixels(name=f"{name}_scale")(pixels)
    first, reduced, last = size["stem"]
    x = image_conv(x, first, 7, strides=2, name=f"{name}_stem0")
    x = _halve(x, f"{name}_stem_pool0")
    x = image_conv(x, reduced, 1, name=f"{name}_stem1")
    x = image_conv(x, last, 3, name=f"{name}_stem2")
    for stage, blocks in enumerate(stages):
        x = _halve(x, f"{name}_pool{stage}")
        for number, widths in enumerate(blocks):
            x = _block(x, widths, f"{name}_stage{stage}_block{number}")
    return end_grid(name, "inception", inputs, x, present, dropout)


def _halve(x: Any, name: str) -> Any:
    return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _block(x: Any, widths: tuple[int, ...], name: str) -> Any:
    """Four branches side by side, their channels concatenated."""
    one, reduce3, three, reduce5, five, projected = widths
    pooled = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branches = [
        image_conv(x, one, 1, name=f"{name}_one"),
        image_conv(image_conv(x, reduce3, 1, name=f"{name}_reduce3"), three, name=f"{name}_three"),
        image_conv(image_conv(x, reduce5, 1, name=f"{name}_reduce5"), five, 5, name=f"{name}_five"),
        image_conv(pooled, projected, 1, name=f"{name}_projected"),
    ]
    return keras.layers.Concatenate(name=f"{name}_join")(branches)
