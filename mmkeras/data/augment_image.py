"""Augmentation of pictures: flip, translate, rotate, zoom, colours, cut-outs, RandAugment.

Geometry, brightness and contrast are Keras layers. Cut-outs and colours are made here: the layers
of Keras and keras-cv for them draw from generators of their own, so that their numbers are no
function of a passed seed. For the same draws the cut-outs and grids are keras-cv's.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import Image, checks
from mmkeras.data.draws import Draws
from mmkeras.data.rand_augment import rand_augment

_BYTES = {"value_range": (0, 255), "dtype": "float32"}


def _keras_layer(make: Callable[..., Any]) -> Callable:
    def op(modality: Image, **arguments: Any) -> Callable:
        layer = make(**arguments)

        def apply(value: Any, mask: Any, draws: Draws) -> Any:
            pixels = tf.cast(value, tf.float32)
            drawn = draws.of_layer(layer, pixels)
            return _bytes(layer.transform_images(pixels, drawn, training=True))

        return apply

    return op


def _moved(layer: type[keras.layers.Layer], *fractions: float, fill: float) -> keras.layers.Layer:
    """Returns a layer that moves pictures; what comes in from outside has the value `fill`."""
    fill = checks.real("fill", fill, 0.0, 255.0)
    return layer(*fractions, fill_mode="constant", fill_value=fill, dtype="float32")


def _bytes(pixels: Any) -> Any:
    return tf.saturate_cast(tf.round(pixels), tf.uint8)


def _color_jitter(modality: Image, hue: float = 0.05, saturation: float = 0.3) -> Callable:
    """Turns the hue by up to +-`hue` of the circle, scales the saturation by 1 +-`saturation`."""
    checks.real("hue", hue, 0.0, 0.5)
    checks.real("saturation", saturation, 0.0, 1.0)
    if modality.channels != 3:
        raise ValueError(f"needs coloured pictures; the spec has channels={modality.channels}")

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], 1, 1, 2, low=-1.0, high=1.0)
        h, s, v = tf.unstack(tf.image.rgb_to_hsv(tf.cast(value, tf.float32) / 255.0), axis=-1)
        h = tf.math.floormod(h + hue * drawn[..., 0], 1.0)
        s = tf.clip_by_value(s * (1.0 + saturation * drawn[..., 1]), 0.0, 1.0)
        return _bytes(255.0 * tf.image.hsv_to_rgb(tf.stack([h, s, v], axis=-1)))

    return apply


def _cutout(modality: Image, fraction: float = 0.5, count: int = 1) -> Callable:
    """Blackens `count` squares (DeVries & Taylor 2017), their centres anywhere in the picture.

    `fraction` is the square's side as a share of the picture's shorter one.
    """
    checks.real("fraction", fraction, 0.0, 1.0)
    checks.whole("count", count)
    height, width = modality.size
    half, size = fraction * min(height, width) / 2.0, tf.constant(modality.size, tf.float32)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], count, 2) * size
        y = tf.range(height, dtype=tf.float32) + 0.5
        x = tf.range(width, dtype=tf.float32) + 0.5
        inside_y = tf.abs(y - drawn[..., :1]) < half  # (B, count, H)
        inside_x = tf.abs(x - drawn[..., 1:]) < half
        cut = tf.reduce_any(inside_y[:, :, :, None] & inside_x[:, :, None, :], axis=1)
        return tf.where(cut[..., None], tf.zeros_like(value), value)

    return apply


def _grid_mask(
    modality: Image, unit: tuple = (0.4, 1.0), ratio: float = 0.4, rotate: float = 0.0
) -> Callable:
    """Blackens a grid of squares (Chen et al. 2020), of random unit, offset and angle.

    `unit`, (low, high), is the side of a grid cell as a share of the picture's shorter side,
    `ratio` the share of that side that is blackened, `rotate` the largest angle as a share of a
    full turn.
    """
    low, high = (checks.real("unit", share, 1e-3, 2.0) for share in unit)
    checks.real("ratio", ratio, 0.0, 1.0)
    checks.real("rotate", rotate, 0.0, 1.0)
    height, width = modality.size

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], 4)[:, :, None, None]
        side = (low + (high - low) * drawn[:, 0]) * min(height, width)
        angle = (2.0 * drawn[:, 3] - 1.0) * rotate * 2.0 * math.pi
        y = (tf.range(height, dtype=tf.float32) + 0.5 - height / 2)[None, :, None]
        x = (tf.range(width, dtype=tf.float32) + 0.5 - width / 2)[None, None, :]
        turned = (
            tf.cos(angle) * y + tf.sin(angle) * x + drawn[:, 1] * side,
            tf.cos(angle) * x - tf.sin(angle) * y + drawn[:, 2] * side,
        )
        cut = [tf.math.floormod(along, side) < ratio * side for along in turned]
        return tf.where((cut[0] & cut[1])[..., None], tf.zeros_like(value), value)

    return apply


def _rand_augment(modality: Image, num_ops: int = 2, magnitude: float = 0.3) -> Callable:
    """RandAugment; see `mmkeras.data.rand_augment`."""
    apply = rand_augment(num_ops, magnitude)
    return lambda value, mask, draws: apply(value, draws)


def _both(fraction: Any) -> Any:
    """The same way down and up; of one number, Keras 3.15 would only raise the contrast."""
    return fraction if isinstance(fraction, list | tuple) else (fraction, fraction)


OPS: dict[str, Callable] = {
    "flip": _keras_layer(lambda mode="horizontal": keras.layers.RandomFlip(mode, dtype="float32")),
    "translate": _keras_layer(
        lambda fraction=0.1, fill=0: _moved(
            keras.layers.RandomTranslation, fraction, fraction, fill=fill
        )
    ),
    "rotate": _keras_layer(
        lambda fraction=0.05, fill=0: _moved(keras.layers.RandomRotation, fraction, fill=fill)
    ),
    "zoom": _keras_layer(
        lambda fraction=0.1, fill=0: _moved(keras.layers.RandomZoom, fraction, fill=fill)
    ),
    "brightness": _keras_layer(
        lambda fraction=0.2: keras.layers.RandomBrightness(fraction, **_BYTES)
    ),
    "contrast": _keras_layer(
        lambda fraction=0.2: keras.layers.RandomContrast(_both(fraction), **_BYTES)
    ),
    "color_jitter": _color_jitter,
    "cutout": _cutout,
    "grid_mask": _grid_mask,
    "rand_augment": _rand_augment,
}
"""`flip` (`mode`); `translate`, `rotate` (of a full turn), `zoom` (`fraction`, and `fill`: 0..255,
what comes in from outside); `brightness`, `contrast` (`fraction`); the others as their functions
say."""
