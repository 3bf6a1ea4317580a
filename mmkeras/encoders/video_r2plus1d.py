"""R(2+1)D: residual networks whose 3-D convolutions are split into space and time."""

from typing import Any

import keras

from mmkeras.core import Video
from mmkeras.encoders.base import end, sizes_of
from mmkeras.encoders.video_conv import begin_clip, video_conv
from mmkeras.layers import LearnedPositions

VARIANTS = {
    "small": {"filters": (16, 32, 64), "depths": (1, 1, 1), "stem_kernel": 3},
    "18": {"filters": (64, 128, 256, 512), "depths": (2, 2, 2, 2), "stem_kernel": 7},
    "34": {"filters": (64, 128, 256, 512), "depths": (3, 4, 6, 3), "stem_kernel": 7},
}


def video_r2plus1d(
    name: str,
    modality: Video,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    center: bool = False,
    **sizes: Any,
) -> keras.Model:
    """A stem and stages of residual blocks of two (2+1)D convolutions (Tran et al. 2018).

    A t x d x d convolution from N to N' channels becomes 1 x d x d to M channels, norm, ReLU, and
    t x 1 x 1 to N', with M = floor(t d^2 N N' / (d^2 N + t N')), so that it has as many weights.
    The first block of every stage but the first halves time, height and width. Deviations: group
    normalisation over the real frames instead of batch normalisation; M of the stem by the same
    rule (the authors' code has 45); the mean at the end is over space alone, a token per step in
    time, and the one over time is left to the fusion.

    Args:
        name: of the modality; prefix of every layer.
        modality: a `Video` of N frames.
        variant: of `VARIANTS`; "18" and "34" have the sizes of the paper.
        dropout: rate on the tokens.
        center: whether every pixel's mean over the real frames is subtracted first, so that only
            what moves is left; the papers' do not.
        **sizes: in place of the variant's: `filters` and `depths` (number of blocks) of the
            stages, `stem_kernel` (height and width).

    Returns:
        Functional model to tokens (B, T, D), T = N / 2^(stages - 1) rounded up, D = filters[-1],
        with learned positions, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, x, mask = begin_clip(name, modality, center)
    filters, kernel = size["filters"], size["stem_kernel"]
    x, mask = _conv2plus1d(
        x, mask, filters[0], kernel=kernel, strides=(1, 2, 2), name=f"{name}_stem"
    )
    for i, (width, depth) in enumerate(zip(filters, size["depths"], strict=True)):
        for j in range(depth):
            stride = 2 if i and not j else 1
            x, mask = _block(x, mask, width, stride, f"{name}_stage{i}_{j}")
    _, time, height, wide, width = x.shape
    x = keras.layers.Reshape((time, height * wide, width), name=f"{name}_grid")(x)
    x = keras.layers.AveragePooling2D((1, height * wide), name=f"{name}_mean")(x)
    tokens = keras.layers.Reshape((time, width), name=f"{name}_steps")(x)
    if dropout:
        tokens = keras.layers.Dropout(dropout, name=f"{name}_dropout")(tokens)
    tokens = LearnedPositions(time, name=f"{name}_positions")(tokens)
    return end(name, "r2plus1d", inputs, tokens, mask)


def _conv2plus1d(
    x: Any,
    mask: Any,
    filters: int,
    *,
    kernel: int = 3,
    strides: tuple[int, int, int] = (1, 1, 1),
    relu: bool = True,
    name: str,
) -> tuple[Any, Any]:
    """A 3 x kernel x kernel convolution, split; returns `(x, mask)`."""
    before, area = x.shape[-1], kernel**2
    middle = max(1, 3 * area * before * filters // (area * before + 3 * filters))
    x, mask = video_conv(
        x, mask, middle, (1, kernel, kernel), strides=(1, *strides[1:]), name=f"{name}_space"
    )
    return video_conv(
        x, mask, filters, (3, 1, 1), strides=(strides[0], 1, 1), relu=relu, name=f"{name}_time"
    )


def _block(x: Any, mask: Any, filters: int, stride: int, name: str) -> tuple[Any, Any]:
    strides = (stride,) * 3
    y, after = _conv2plus1d(x, mask, filters, strides=strides, name=f"{name}_first")
    y, after = _conv2plus1d(y, after, filters, relu=False, name=f"{name}_second")
    if stride > 1 or x.shape[-1] != filters:
        x, _ = video_conv(
            x, mask, filters, (1, 1, 1), strides=strides, relu=False, name=f"{name}_short"
        )
    x = keras.layers.Add(name=f"{name}_add")([x, y])
    return keras.layers.ReLU(name=f"{name}_relu")(x), after
