"""A 3-D convolutional network over clips."""

from typing import Any

import keras

from mmkeras.core import Video
from mmkeras.encoders.base import end, sizes_of
from mmkeras.encoders.video_conv import begin_clip, video_conv, whole_strides
from mmkeras.layers import LearnedPositions, MaxPool3D

VARIANTS = {
    "small": {"filters": (16, 32, 64), "depths": (1, 1, 1), "hidden_dim": 64},
    "c3d": {
        "filters": (64, 128, 256, 512, 512),
        "depths": (1, 1, 2, 2, 2),
        "hidden_dim": 4096,
    },
}


def video_cnn3d(
    name: str,
    modality: Video,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    center: bool = False,
    **sizes: Any,
) -> keras.Model:
    """Stages of 3x3x3 convolutions and 2x2x2 max pooling (C3D, Tran et al. 2015).

    The first stage pools over space alone, as there. Deviations: group normalisation over the real
    frames after every convolution (and after the pooling over space, before that over time); the
    first dense layer (fc6) acts on each step in time that is left (one, of 16 frames and "c3d"),
    without ReLU, and the second is left to the fusion.

    Args:
        name: of the modality; prefix of every layer.
        modality: a `Video` of N frames.
        variant: of `VARIANTS`; "c3d" has the sizes of the paper.
        dropout: rate on the tokens.
        center: whether every pixel's mean over the real frames is subtracted first, so that only
            what moves is left; the papers' do not.
        **sizes: in place of the variant's: `filters` and `depths` (number of convolutions) of the
            stages, `hidden_dim` (D).

    Returns:
        Functional model to tokens (B, T, D), T = N / 2^(stages - 1) rounded up, with learned
        positions, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, x, mask = begin_clip(name, modality, center)
    for i, (width, depth) in enumerate(zip(size["filters"], size["depths"], strict=True)):
        for j in range(depth):
            pool = 2 if j == depth - 1 else 1
            x, mask = video_conv(x, mask, width, (3, 3, 3), pool=pool, name=f"{name}_stage{i}_{j}")
        if i:  # what is masked is zero and the rest not below it: a maximum is one of real frames
            x, mask = whole_strides(x, mask, 2, f"{name}_stage{i}")
            x = MaxPool3D((2, 1, 1), name=f"{name}_stage{i}_pool")(x)
    _, time, height, width, filters = x.shape
    x = keras.layers.Reshape((time, height * width * filters), name=f"{name}_grid")(x)
    tokens = keras.layers.Dense(size["hidden_dim"], name=f"{name}_join")(x)
    if dropout:
        tokens = keras.layers.Dropout(dropout, name=f"{name}_dropout")(tokens)
    tokens = LearnedPositions(time, name=f"{name}_positions")(tokens)
    return end(name, "cnn3d", inputs, tokens, mask)
