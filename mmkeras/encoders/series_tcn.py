"""A temporal convolutional network over a series."""

from typing import Any

import keras

from mmkeras.core import Series
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.steps import pooled
from mmkeras.layers import ZeroMasked

VARIANTS = {
    "small": {"filters": (32,) * 4, "kernel_size": 5},
    "sequential_mnist": {"filters": (25,) * 8, "kernel_size": 7},
    "char_ptb": {"filters": (450,) * 3, "kernel_size": 3},
    "word_ptb": {"filters": (600,) * 4, "kernel_size": 3},
}
"""All but `small`: sizes of the paper's experiments of these names."""


def series_tcn(
    name: str,
    modality: Series,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    pool: int = 1,
    **sizes: Any,
) -> keras.Model:
    """Residual blocks of two dilated causal convolutions (Bai et al. 2018).

    Block i has the dilation 2^i, so a token sees 1 + 2 (kernel - 1) (2^blocks - 1) steps back.
    What is not there is zero before every convolution. Deviation: layer normalisation over the
    channels of each step instead of weight normalisation; it sees one step, so nothing can leak.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Series` of T steps.
        variant: a key of `VARIANTS`.
        dropout: rate of whole channels, after each convolution.
        pool: steps averaged into a token.
        **sizes: in place of the variant's: `filters` (per block), `kernel_size`.

    Returns:
        Functional model to tokens (B, T / pool rounded up, D) and their mask, D the last of
        `filters`.
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, x, mask = begin(name, modality)
    for i, width in enumerate(size["filters"]):
        before = x
        for j in range(2):
            part = f"{i}_{j}"
            x = keras.layers.Conv1D(
                width,
                size["kernel_size"],
                padding="causal",
                dilation_rate=2**i,
                use_bias=False,
                name=f"{name}_conv{part}",
            )(x)
            x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm{part}")(x)
            x = keras.layers.ReLU(name=f"{name}_relu{part}")(x)
            if dropout:
                x = keras.layers.SpatialDropout1D(dropout, name=f"{name}_dropout{part}")(x)
            x = ZeroMasked(name=f"{name}_real{part}")(x, mask)
        if before.shape[-1] != width:
            before = keras.layers.Dense(width, name=f"{name}_short{i}")(before)
        x = keras.layers.Add(name=f"{name}_add{i}")([before, x])
        x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
        x = ZeroMasked(name=f"{name}_real{i}")(x, mask)
    return end(name, "tcn", inputs, *pooled(name, x, mask, pool))
