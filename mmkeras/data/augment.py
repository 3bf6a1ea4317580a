"""Seeded augmentation of decoded batches, as the modality's `augment` says; training only.

Randomness comes from the draws that are passed and from nothing else, so a row of a given epoch and
place in the global batch is always augmented alike, by however many readers. Absent samples stay
untouched behind their mask; masks stay as they are.

Images (uint8 0..255, what is cut out or comes in is black): `mmkeras.data.augment_image`, and
`random_resized_crop` (`scale`, `ratio`), which comes first, while the picture is decoded
(`mmkeras.data.crop`). Audio: `mmkeras.data.augment_audio`, and `spec_augment`, which acts on the
spectrogram and is a layer of the audio encoders. Text: `mmkeras.data.augment_text`, of which
`character_noise` comes first, before the text is cut into tokens. Series:
`mmkeras.data.augment_series`. Batches with their labels:
`mmkeras.data.blend`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data import augment_audio, augment_image, augment_series, augment_text
from mmkeras.data.draws import Draws

OPS: dict[str, dict[str, Callable]] = {
    "image": augment_image.OPS,
    "audio": augment_audio.OPS,
    "text": augment_text.OPS,
    "series": augment_series.OPS,
}


def made(make: Callable, modality: Modality, name: str) -> Callable:
    """Returns an augmentation with the arguments of the spec, or raises what is wrong with them."""
    try:
        return make(modality, **modality.augment[name])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The augmentation {name!r} must have arguments that it knows, in their range. "
            f"Received: {modality.augment[name]}: {error}. See mmkeras.data.augment for them."
        ) from error


def augmenter(modality: Modality) -> Callable | None:
    """Returns `(value, mask, draws) -> value` for a decoded batch, or None."""
    table = OPS.get(modality.kind, {})
    chosen = getattr(modality, "augment", {})
    ops = [made(table[name], modality, name) for name in chosen if name in table]
    if not ops:
        return None

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        for number, op in enumerate(ops):
            value = op(value, mask, draws.fold(1000 * (number + 1)))
        real = tf.reshape(
            mask, tf.concat([tf.shape(mask), [1] * (len(value.shape) - len(mask.shape))], 0)
        )
        return tf.where(real, value, tf.zeros_like(value))

    return apply
