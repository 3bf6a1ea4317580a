"""Convolution, then recurrence, over log-mel or MFCC frames."""

from typing import Any

import keras

from mmkeras.core import Audio
from mmkeras.encoders.audio_frames import frames, join_bands
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.convolution import masked_conv
from mmkeras.encoders.recurrence import recurrent

VARIANTS = {
    "small": {
        "filters": (16, 32, 64),
        "kernel_size": 3,
        "pools": ((2, 2), (2, 2), (2, 2)),
        "hidden_dim": 32,
    },
    "wide": {
        "filters": (96, 96, 96),
        "kernel_size": 5,
        "pools": ((1, 5), (1, 4), (1, 2)),
        "hidden_dim": 96,
    },
}


def audio_crnn(
    name: str, modality: Audio, *, variant: str = "small", dropout: float = 0.0, **sizes: Any
) -> keras.Model:
    """Convolutional stages over time and bands, then a bidirectional GRU (Cakir et al. 2017).

    Deviations: group normalisation over the real frames instead of batch normalisation; the GRU
    reads both ways; "small" also pools over time.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Audio`; F frames come out of S samples.
        variant: a key of `VARIANTS`; "wide" pools bands alone and keeps every frame. The
            sizes are our own.
        dropout: rate before and after the recurrence.
        **sizes: in place of the variant's: `filters` and `pools`, (time, bands), of each stage,
            `kernel_size`, `hidden_dim` (units of each direction, D = 2 * hidden_dim).

    Returns:
        Functional model to tokens (B, T, D), T = F / the product of the time pools, rounded up at
        each, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, wave, mask = begin(name, modality)
    x, mask = frames(name, modality, wave, mask)
    x = keras.layers.Reshape((*x.shape[1:], 1), name=f"{name}_channel")(x)
    for i, (filters, pool) in enumerate(zip(size["filters"], size["pools"], strict=True)):
        x, mask = masked_conv(
            x, mask, filters, size["kernel_size"], pool=tuple(pool), name=f"{name}_stage{i}"
        )
    x = join_bands(name, x)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    x = recurrent("gru", size["hidden_dim"], True, name)(x, mask=mask)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout_out")(x)
    return end(name, "crnn", inputs, x, mask)
