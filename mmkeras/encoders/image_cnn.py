"""A small convolutional network over pictures."""

from collections.abc import Sequence

import keras

from mmkeras.core import Image
from mmkeras.encoders.base import ScalePixels, begin, end_grid


def image_cnn(
    name: str,
    modality: Image,
    *,
    filters: Sequence[int] = (16, 32, 64, 64),
    kernel_size: int = 3,
    dropout: float = 0.0,
) -> keras.Model:
    """Stages of convolution, 2x2 max pooling, group normalisation and ReLU.

    Group normalisation (Wu & He 2018, one group of 8 channels each) instead of batch
    normalisation: it sees one sample at a time, so replicas, partial batches and absent pictures
    cannot change each other's numbers.

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Image` of H x W x C; H and W must be at least `2 ** len(filters)`.
        filters: channels of each stage; the last is the token width D.
        kernel_size: of every convolution.
        dropout: spatial dropout rate after the last stage.

    Returns:
        Functional model to tokens (B, T, D), T = H / 2^n * W / 2^n rounded up, with learned
        positions, and the mask (B, T).
    """
    if min(modality.size) < 2 ** len(filters):
        raise ValueError(
            f"A picture of {modality.size} is too small for {len(filters)} stages: each side must "
            f"be at least {2 ** len(filters)} pixels. Give fewer `filters`, e.g. "
            f"encoders={{{name!r}: {{'name': 'cnn', 'filters': {tuple(filters[:2])}}}}}."
        )
    inputs, pixels, present = begin(name, modality)
    x = ScalePixels(name=f"{name}_scale")(pixels)
    for i, width in enumerate(filters):
        x = keras.layers.Conv2D(
            width, kernel_size, padding="same", use_bias=False, name=f"{name}_conv{i}"
        )(x)
        # Pooling first: the rest then works on a quarter of the positions.
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"{name}_pool{i}")(x)
        x = keras.layers.GroupNormalization(max(1, width // 8), name=f"{name}_norm{i}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu{i}")(x)
    return end_grid(name, "cnn", inputs, x, present, dropout)
