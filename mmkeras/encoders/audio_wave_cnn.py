"""A one-dimensional convolutional network over the raw wave."""

from typing import Any

import keras

from mmkeras.core import Audio
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.convolution import masked_conv
from mmkeras.layers import LearnedPositions

VARIANTS = {
    "small": {"filters": (16, 32, 64, 64), "depths": (1, 1, 1, 1)},
    "m3": {"filters": (256, 256), "depths": (1, 1)},
    "m5": {"filters": (128, 128, 256, 512), "depths": (1, 1, 1, 1)},
    "m11": {"filters": (64, 64, 128, 256, 512), "depths": (1, 2, 2, 3, 2)},
    "m18": {"filters": (64, 64, 128, 256, 512), "depths": (1, 4, 4, 4, 4)},
}


def audio_wave_cnn(
    name: str,
    modality: Audio,
    *,
    variant: str = "small",
    kernel_size: int = 80,
    dropout: float = 0.0,
    **sizes: Any,
) -> keras.Model:
    """A long first filter of stride 4, then stages of short ones (Dai et al. 2017).

    Every stage but the last ends with max pooling by 4. Deviations: group normalisation over the
    real samples instead of batch normalisation; the residual M34 is left out; global pooling is
    left to fusion and heads. The `features` of the spec are not used.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Audio` of S samples (8 kHz in the paper).
        variant: a key of `VARIANTS`; "m3" to "m18" are the paper's.
        kernel_size: samples of the first filter.
        dropout: rate on the tokens.
        **sizes: in place of the variant's: `filters` and `depths` (number of convolutions) of
            each stage; the last of `filters` is D.

    Returns:
        Functional model to tokens (B, T, D), T = S / 4^n for n stages, rounded up at each, with
        learned positions, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, wave, mask = begin(name, modality)
    x = keras.layers.Reshape((modality.num_samples, 1), name=f"{name}_channel")(wave)
    last = len(size["filters"]) - 1
    for stage, (filters, depth) in enumerate(zip(size["filters"], size["depths"], strict=True)):
        for i in range(depth):
            first = stage == 0 and i == 0
            pool = 4 if i == depth - 1 and stage < last else 1
            x, mask = masked_conv(
                x,
                mask,
                filters,
                kernel_size if first else 3,
                strides=4 if first else 1,
                pool=pool,
                name=f"{name}_stage{stage}_{i}",
            )
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    tokens = LearnedPositions(x.shape[1], name=f"{name}_positions")(x)
    return end(name, "wave_cnn", inputs, tokens, mask)
