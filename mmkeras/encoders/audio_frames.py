"""The features of a sound as its spec declares them."""

from typing import Any

import keras

from mmkeras.core import Audio
from mmkeras.layers import MFCC, LogMel, SpecAugment


def frames(name: str, modality: Audio, wave: Any, mask: Any) -> tuple[Any, Any]:
    """Returns log-mel or MFCC frames (B, F, M), zero behind their mask, and the mask (B, F).

    `spec_augment` of the spec acts here, while training, on the log-mel frames.
    """
    x, mask = LogMel(
        modality.rate_hz,
        num_bands=modality.num_bands,
        window_seconds=modality.window_seconds,
        hop_seconds=modality.hop_seconds,
        name=f"{name}_log_mel",
    )(wave, mask)
    if "spec_augment" in modality.augment:
        x = SpecAugment(**modality.augment["spec_augment"], name=f"{name}_spec_augment")(x)
    if modality.features == "mfcc":
        x = MFCC(modality.num_coefficients, name=f"{name}_mfcc")(x)
    return x, mask


def join_bands(name: str, x: Any) -> Any:
    """Joins the bands of (B, T, M, C) into the channels: (B, T, M * C)."""
    return keras.layers.Reshape((x.shape[1], x.shape[2] * x.shape[3]), name=f"{name}_bands")(x)
