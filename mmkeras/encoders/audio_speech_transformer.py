"""Convolutional subsampling and transformer blocks over log-mel or MFCC frames."""

from typing import Any

import keras

from mmkeras.core import Audio
from mmkeras.encoders.audio_frames import frames, join_bands
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.convolution import masked_conv
from mmkeras.layers import LearnedPositions, TransformerBlock, ZeroMasked

_SIZES = ("filters", "hidden_dim", "num_layers", "num_heads", "intermediate_dim")
_TABLE = {
    "small": (16, 64, 2, 4, 128),
    "base": (64, 256, 6, 4, 1024),
    "big": (64, 256, 12, 4, 2048),
}
VARIANTS = {name: dict(zip(_SIZES, sizes, strict=True)) for name, sizes in _TABLE.items()}


def audio_speech_transformer(
    name: str,
    modality: Audio,
    *,
    variant: str = "small",
    dropout: float = 0.1,
    remat: bool = False,
    **sizes: Any,
) -> keras.Model:
    """The encoder of the Speech-Transformer (Dong, Xu & Xu 2018).

    Two 3x3 convolutions of stride 2 over time and bands, the bands joined into the channels and
    projected to D, positions, pre-norm blocks and a last norm. Deviations: group normalisation
    over the real frames after the convolutions; learned positions; no 2D attention.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Audio`; F frames come out of S samples.
        variant: a key of `VARIANTS`; the sizes are our own, not the paper's.
        dropout: rate inside the blocks.
        remat: whether the blocks keep no activations (see `TransformerBlock`).
        **sizes: in place of the variant's: `filters` of the convolutions, `hidden_dim` (D),
            `num_layers`, `num_heads`, `intermediate_dim`.

    Returns:
        Functional model to tokens (B, T, D), T = F / 4 rounded up at each halving, and the mask
        (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, wave, mask = begin(name, modality)
    x, mask = frames(name, modality, wave, mask)
    x = keras.layers.Reshape((*x.shape[1:], 1), name=f"{name}_channel")(x)
    for i in range(2):
        x, mask = masked_conv(x, mask, size["filters"], strides=2, name=f"{name}_subsample{i}")
    x = keras.layers.Dense(size["hidden_dim"], name=f"{name}_join")(join_bands(name, x))
    x = LearnedPositions(x.shape[1], name=f"{name}_positions")(x)
    x = ZeroMasked(name=f"{name}_frames")(x, mask)
    for i in range(size["num_layers"]):
        x = TransformerBlock(
            size["num_heads"],
            size["intermediate_dim"],
            dropout=dropout,
            remat=remat,
            name=f"{name}_block{i}",
        )(x, mask)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "speech_transformer", inputs, x, mask)
