"""A convolutional network over characters."""

from typing import Any

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.convolution import masked_conv
from mmkeras.layers import LearnedPositions, ZeroMasked

_PAPER = {"embedding_dim": 69, "kernels": (7, 7, 3, 3, 3, 3), "pools": (3, 3, 1, 1, 1, 3)}
VARIANTS = {
    "small": {
        "embedding_dim": 16,
        "filters": (64, 64, 64),
        "kernels": (7, 3, 3),
        "pools": (2, 2, 1),
    },
    "zhang_small": {"filters": (256,) * 6, **_PAPER},
    "zhang_large": {"filters": (1024,) * 6, **_PAPER},
}


def text_char_cnn(
    name: str, modality: Text, *, variant: str = "small", dropout: float = 0.0, **sizes: Any
) -> keras.Model:
    """Convolutions and max pooling over characters (Zhang, Zhao & LeCun 2015, table 1).

    For `mk.Text(tokenizer="characters")` or `"bytes"`; other tokenizers work too. Deviations:
    learned vectors instead of one-hot characters; group normalisation over the real characters
    after every convolution, without which six of them hardly train; convolutions are padded; the
    dense layers are left to fusion and heads.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        variant: a key of `VARIANTS`; the paper's (of 1014 characters) are "zhang_small" and
            "zhang_large".
        dropout: rate on the tokens.
        **sizes: in place of the variant's: `embedding_dim`, and of each stage `filters` (the last
            is D), `kernels` and `pools`.

    Returns:
        Functional model to tokens (B, T, D), T = L / the product of the pools, rounded up at each,
        with learned positions, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, ids, mask = begin(name, modality)
    width = size["embedding_dim"]
    x = keras.layers.Embedding(len(modality.vocabulary), width, name=f"{name}_embedding")(ids)
    x = ZeroMasked(name=f"{name}_embedded")(x, mask)
    stages = zip(size["filters"], size["kernels"], size["pools"], strict=True)
    for i, (filters, kernel, pool) in enumerate(stages):
        x, mask = masked_conv(x, mask, filters, kernel, pool=pool, name=f"{name}_stage{i}")
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    tokens = LearnedPositions(x.shape[1], name=f"{name}_positions")(x)
    return end(name, "char_cnn", inputs, tokens, mask)
