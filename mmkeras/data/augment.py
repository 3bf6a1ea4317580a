"""Seeded augmentation of decoded batches, as the modality's `augment` says; training only.

Randomness comes from the seed that is passed and from nothing else, so a batch of a given epoch
and position is always augmented alike. Absent samples stay untouched behind their mask.

Images (Keras layers, on uint8 0..255, borders filled with black): `flip` (horizontal; `mode`),
`translate` (`fraction`), `rotate` (`fraction` of a full turn), `zoom` (`fraction`), `brightness`
and `contrast` (`fraction`); `random_resized_crop` (`scale`, `ratio`) comes first, while the picture
is decoded (`mmkeras.data.crop`). Videos: the same, drawn once per clip for all its frames, and in
place of the resized crop `temporal_crop` (`scale`), while the clip is decoded. Audio: `time_shift`
(`seconds`, zeros come in), `noise` (white, at `snr_db`); `spec_augment` acts on the spectrogram and
is a layer of the audio encoders. Of `Several`, every item is augmented by itself.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import Modality, Video


class _PassedSeed(keras.random.SeedGenerator):
    """Lets Keras' random layers draw from a seed tensor instead of a stateful variable."""

    def __new__(cls, seed: Any) -> "_PassedSeed":
        """Skips the base class's tracking, which would make a variable."""
        return object.__new__(cls)

    def __init__(self, seed: Any) -> None:
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "draws", 0)

    def next(self, ordered: bool = True) -> Any:
        """Returns a new seed at every call, a function of the passed one and the count."""
        object.__setattr__(self, "draws", self.draws + 1)
        return self.seed + tf.constant([0, self.draws], tf.uint32)


def _keras_layer(make: Callable[..., Any]) -> Callable:
    def op(modality: Modality, **arguments: Any) -> Callable:
        layer = make(**arguments)

        def apply(value: Any, mask: Any, seed: Any) -> Any:
            pixels = tf.cast(value, tf.float32)
            draw = layer.get_random_transformation(pixels, training=True, seed=_PassedSeed(seed))
            return tf.saturate_cast(
                tf.round(layer.transform_images(pixels, draw, training=True)), tf.uint8
            )

        return apply

    return op


_BLACK = {"fill_mode": "constant", "fill_value": 0.0, "dtype": "float32"}
_BYTES = {"value_range": (0, 255), "dtype": "float32"}


def _time_shift(modality: Modality, seconds: float = 0.1) -> Callable:
    """Moves the wave by up to +-`seconds`; what leaves is lost, zeros come in."""
    limit = round(seconds * modality.rate_hz)

    def apply(value: Any, mask: Any, seed: Any) -> Any:
        batch, size = tf.shape(value)[0], modality.num_samples
        shift = tf.random.stateless_uniform(
            (batch, 1), tf.cast(seed, tf.int32), -limit, limit + 1, dtype=tf.int32
        )
        source = tf.range(size)[None, :] - shift
        inside = (source >= 0) & (source < size)
        moved = tf.gather(value, tf.clip_by_value(source, 0, size - 1), batch_dims=1)
        return tf.where(inside, moved, 0.0)

    return apply


def _noise(modality: Modality, snr_db: float = 20.0) -> Callable:
    """Adds white noise at `snr_db` decibels below the power of each sample's real part."""

    def apply(value: Any, mask: Any, seed: Any) -> Any:
        real = tf.cast(mask, tf.float32)
        count = tf.maximum(tf.reduce_sum(real, axis=1, keepdims=True), 1.0)
        power = tf.reduce_sum(value**2 * real, axis=1, keepdims=True) / count
        noise = tf.random.stateless_normal(tf.shape(value), tf.cast(seed, tf.int32))
        return value + noise * tf.sqrt(power * 10.0 ** (-snr_db / 10.0))

    return apply


def _both(fraction: Any) -> Any:
    """The same way down and up; of one number, Keras 3.15 would only raise the contrast."""
    return fraction if isinstance(fraction, list | tuple) else (fraction, fraction)


def _frames(op: Callable) -> Callable:
    """An op of pictures on clips (B, N, H, W, C): drawn once per clip, the same for its frames."""

    def on_clips(modality: Modality, **arguments: Any) -> Callable:
        on_pictures = op(modality, **arguments)

        def apply(value: Any, mask: Any, seed: Any) -> Any:
            _, count, height, width, channels = value.shape
            wide = tf.transpose(value, (0, 2, 3, 1, 4))  # frames side by side in the channels
            wide = tf.reshape(wide, (-1, height, width, count * channels))
            wide = on_pictures(wide, mask, seed)
            wide = tf.reshape(wide, (-1, height, width, count, channels))
            return tf.transpose(wide, (0, 3, 1, 2, 4))

        return apply

    return on_clips


OPS: dict[str, dict[str, Callable]] = {
    "image": {
        "flip": _keras_layer(
            lambda mode="horizontal": keras.layers.RandomFlip(mode, dtype="float32")
        ),
        "translate": _keras_layer(
            lambda fraction=0.1: keras.layers.RandomTranslation(fraction, fraction, **_BLACK)
        ),
        "rotate": _keras_layer(
            lambda fraction=0.05: keras.layers.RandomRotation(fraction, **_BLACK)
        ),
        "zoom": _keras_layer(lambda fraction=0.1: keras.layers.RandomZoom(fraction, **_BLACK)),
        "brightness": _keras_layer(
            lambda fraction=0.2: keras.layers.RandomBrightness(fraction, **_BYTES)
        ),
        "contrast": _keras_layer(
            lambda fraction=0.2: keras.layers.RandomContrast(_both(fraction), **_BYTES)
        ),
    },
    "audio": {"time_shift": _time_shift, "noise": _noise},
}
OPS["video"] = {n: _frames(op) for n, op in OPS["image"].items() if n in Video.augmentations}


def _op(make: Callable, modality: Modality, name: str) -> Callable:
    try:
        return make(modality, **modality.augment[name])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The augmentation {name!r} must have arguments that it knows, in their range. "
            f"Received: {modality.augment[name]}: {error}. See mmkeras.data.augment for them."
        ) from error


def _each_item(augment: Callable | None) -> Callable | None:
    """The augmentation of items (B * K, ...) on several per sample (B, K, ...)."""

    def apply(value: Any, mask: Any, seed: Any) -> Any:
        items = (tf.reshape(part, [-1, *part.shape[2:]]) for part in (value, mask))
        return tf.reshape(augment(*items, seed), [-1, *value.shape[1:]])

    return augment and apply


def augmenter(modality: Modality) -> Callable | None:
    """Returns `(value, mask, seed uint32 (2,)) -> value` for a decoded batch, or None."""
    if modality.item is not modality:
        return _each_item(augmenter(modality.item))
    table = OPS.get(modality.kind, {})
    chosen = getattr(modality, "augment", {})
    ops = [_op(table[name], modality, name) for name in chosen if name in table]
    if not ops:
        return None

    def apply(value: Any, mask: Any, seed: Any) -> Any:
        for number, op in enumerate(ops):
            value = op(value, mask, seed + tf.constant([1000 * (number + 1), 0], tf.uint32))
        real = tf.reshape(
            mask, tf.concat([tf.shape(mask), [1] * (len(value.shape) - len(mask.shape))], 0)
        )
        return tf.where(real, value, tf.zeros_like(value))

    return apply
