"""Seeded augmentation of decoded batches, as the modality's `augment` says; training only.

Randomness comes from the draws that are passed and from nothing else, so a row of a given epoch and
place in the global batch is always augmented alike, by however many readers. Absent samples stay
untouched behind their mask; masks stay as they are.

Images (uint8 0..255, what is cut out or comes in is black): `mmkeras.data.augment_image`, and
`random_resized_crop` (`scale`, `ratio`), which comes first, while the picture is decoded
(`mmkeras.data.crop`). Audio: `mmkeras.data.augment_audio`, and `spec_augment`, which acts on the
spectrogram and is a layer of the audio encoders. Text: `mmkeras.data.augment_text`, of which
`character_noise` comes first, before the text is cut into tokens. Series:
`mmkeras.data.augment_series`. Videos: as pictures, drawn once per clip for all its frames, and in
place of the resized crop `temporal_crop` (`scale`), while the clip is decoded. Of `Several`, every
item is augmented by itself. Batches with their labels: `mmkeras.data.blend`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality, Video
from mmkeras.data import augment_audio, augment_image, augment_series, augment_text
from mmkeras.data.draws import Draws


def _frames(op: Callable) -> Callable:
    """An op of pictures on clips (B, N, H, W, C): drawn once per clip, the same for its frames."""

    def on_clips(modality: Modality, **arguments: Any) -> Callable:
        on_pictures = op(modality, **arguments)

        def apply(value: Any, mask: Any, draws: Draws) -> Any:
            _, count, height, width, channels = value.shape
            wide = tf.transpose(value, (0, 2, 3, 1, 4))  # frames side by side in the channels
            wide = tf.reshape(wide, (-1, height, width, count * channels))
            wide = on_pictures(wide, mask, draws)
            wide = tf.reshape(wide, (-1, height, width, count, channels))
            return tf.transpose(wide, (0, 3, 1, 2, 4))

        return apply

    return on_clips


OPS: dict[str, dict[str, Callable]] = {
    "image": augment_image.OPS,
    "audio": augment_audio.OPS,
    "text": augment_text.OPS,
    "series": augment_series.OPS,
}
OPS["video"] = {n: _frames(op) for n, op in OPS["image"].items() if n in Video.augmentations}


def made(make: Callable, modality: Modality, name: str) -> Callable:
    """Returns an augmentation with the arguments of the spec, or raises what is wrong with them."""
    try:
        return make(modality, **modality.augment[name])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The augmentation {name!r} must have arguments that it knows, in their range. "
            f"Received: {modality.augment[name]}: {error}. See mmkeras.data.augment for them."
        ) from error


def _each_item(augment: Callable | None) -> Callable | None:
    """The augmentation of items (B * K, ...) on several per sample (B, K, ...)."""

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        items = (tf.reshape(part, [-1, *part.shape[2:]]) for part in (value, mask))
        return tf.reshape(augment(*items, draws), [-1, *value.shape[1:]])

    return augment and apply


def augmenter(modality: Modality) -> Callable | None:
    """Returns `(value, mask, draws) -> value` for a decoded batch, or None."""
    if modality.item is not modality:
        return _each_item(augmenter(modality.item))
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
