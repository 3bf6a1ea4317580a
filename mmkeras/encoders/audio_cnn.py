"""A small convolutional network over log-mel or MFCC frames."""

from collections.abc import Sequence

import keras

from mmkeras.core import Audio
from mmkeras.encoders.audio_frames import frames, join_bands
from mmkeras.encoders.base import PoolMask, begin, end
from mmkeras.layers import LearnedPositions


def audio_cnn(
    name: str,
    modality: Audio,
    *,
    filters: Sequence[int] = (16, 32, 64),
    kernel_size: int = 3,
    dropout: float = 0.0,
) -> keras.Model:
    """Features as the spec says, then stages of convolution, 2x2 pooling, group norm and ReLU.

    The bands that are left are joined into the channels, so that a token is one step in time.
    `spec_augment` of the spec acts here, while training.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Audio`; F frames come out of S samples.
        filters: channels of each stage; the last is the token width D.
        kernel_size: of every convolution.
        dropout: rate on the tokens.

    Returns:
        Functional model to tokens (B, T, D), T = F / 2^n rounded up, with learned positions, and
        the mask (B, T).
    """
    inputs, wave, mask = begin(name, modality)
    x, mask = frames(name, modality, wave, mask)
    x = keras.layers.Reshape((*x.shape[1:], 1), name=f"{name}_channel")(x)
    for i, width in enumerate(filters):
        x = keras.layers.Conv2D(
            width, kernel_size, padding="same", use_bias=False, name=f"{name}_conv{i}"
        )(x)
        # Pooling first: the rest then works on a quarter of the positions.
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{name}_pool{i}")(x)
        x = keras.layers.GroupNormalization(max(1, width // 8), name=f"{name}_norm{i}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
        mask = PoolMask(2, name=f"{name}_mask{i}")(mask)
    tokens = keras.layers.Dense(filters[-1], name=f"{name}_join")(join_bands(name, x))
    if dropout:
        tokens = keras.layers.Dropout(dropout, name=f"{name}_dropout")(tokens)
    tokens = LearnedPositions(tokens.shape[1], name=f"{name}_positions")(tokens)
    return end(name, "cnn", inputs, tokens, mask)
