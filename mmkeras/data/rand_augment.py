"""RandAugment (Cubuk et al. 2020): every picture gets some operations out of a list, at random."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.data.draws import Draws


def _blend(picture: Any, other: Any, factor: Any) -> Any:
    """other + factor * (picture - other): factor 0 is `other`, above 1 exaggerates."""
    return other + factor * (picture - other)


def _grey(picture: Any) -> Any:
    if picture.shape[-1] == 1:
        return picture
    return tf.repeat(tf.image.rgb_to_grayscale(picture), 3, axis=-1)


def _sharpness(picture: Any, s: Any) -> Any:
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32)[:, :, None, None] / 13.0
    kernel = tf.repeat(kernel, picture.shape[-1], axis=2)
    blurred = tf.nn.depthwise_conv2d(picture[None], kernel, [1] * 4, "SAME")[0]
    return _blend(picture, blurred, 1.0 + 0.9 * s)


def _posterize(picture: Any, s: Any) -> Any:
    step = tf.pow(2.0, tf.round(4.0 * tf.abs(s)))  # down to 4 of 8 bits
    return tf.floor(picture / step) * step


def _auto_contrast(picture: Any, s: Any) -> Any:
    low = tf.reduce_min(picture, axis=(0, 1), keepdims=True)
    high = tf.reduce_max(picture, axis=(0, 1), keepdims=True)
    return tf.where(high > low, (picture - low) * 255.0 / tf.maximum(high - low, 1.0), picture)


def _equalize(picture: Any, s: Any) -> Any:
    return keras.layers.Equalization(dtype="float32").transform_images(picture[None], None)[0]


def _moved(matrix: Callable) -> Callable:
    """Geometry: `matrix(s, height, width)` gives (a, b, c, d) of x' = x + a x + b y + c W, ..."""

    def op(picture: Any, s: Any) -> Any:
        height, width = (float(side) for side in picture.shape[:2])
        (xx, xy, x0), (yx, yy, y0) = matrix(s, height, width)
        cx, cy = (width - 1.0) / 2.0, (height - 1.0) / 2.0
        shift_x = cx - xx * cx - xy * cy + x0
        shift_y = cy - yx * cx - yy * cy + y0
        zero = tf.zeros(())
        transform = tf.stack([xx, xy, shift_x, yx, yy, shift_y, zero, zero])[None]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=picture[None],
            transforms=transform,
            output_shape=picture.shape[:2],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )[0]

    return op


def _turned(s: Any, height: float, width: float) -> tuple:
    angle = s * math.pi / 6.0  # 30 degrees
    cos, sin, zero = tf.cos(angle), tf.sin(angle), tf.zeros(())
    return (cos, -sin, zero), (sin, cos, zero)


OPS: dict[str, Callable] = {
    "identity": lambda picture, s: picture,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "solarize": lambda picture, s: tf.where(
        picture < 256.0 * (1.0 - tf.abs(s)), picture, 255.0 - picture
    ),
    "color": lambda picture, s: _blend(picture, _grey(picture), 1.0 + 0.9 * s),
    "posterize": _posterize,
    "contrast": lambda picture, s: _blend(picture, tf.reduce_mean(_grey(picture)), 1.0 + 0.9 * s),
    "brightness": lambda picture, s: picture * (1.0 + 0.9 * s),
    "sharpness": _sharpness,
    "rotate": _moved(_turned),
    "shear_x": _moved(lambda s, h, w: ((1.0, 0.3 * s, 0.0), (0.0, 1.0, 0.0))),
    "shear_y": _moved(lambda s, h, w: ((1.0, 0.0, 0.0), (0.3 * s, 1.0, 0.0))),
    "translate_x": _moved(lambda s, h, w: ((1.0, 0.0, 0.45 * w * s), (0.0, 1.0, 0.0))),
    "translate_y": _moved(lambda s, h, w: ((1.0, 0.0, 0.0), (0.0, 1.0, 0.45 * h * s))),
}
"""The paper's fourteen: `(float32 picture (H, W, C) in 0..255, s in [-1, 1]) -> picture`."""


def rand_augment(num_ops: int = 2, magnitude: float = 0.3) -> Callable:
    """Returns `(uint8 (B, H, W, C), draws) -> uint8` of the same shape.

    Every picture draws its own operations, uniformly and with repetition, and for each the sign
    of its strength. Deviation: strengths are shares of the range of each operation (30 degrees,
    shear 0.3, 0.45 of a side, factors 0.1 to 1.9), as in the paper's reference code at 10 of 10.

    Args:
        num_ops: operations per picture.
        magnitude: strength, in [0, 1].
    """
    checks.whole("num_ops", num_ops)
    checks.real("magnitude", magnitude, 0.0, 1.0)
    ops = list(OPS.values())

    def apply(value: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], num_ops, 2)
        chosen = tf.cast(drawn[..., 0] * len(ops), tf.int32)
        strength = tf.where(drawn[..., 1] < 0.5, -magnitude, magnitude)

        def one(parts: tuple) -> Any:
            picture, which, strengths = parts
            picture = tf.cast(picture, tf.float32)
            for i in range(num_ops):
                branches = [
                    lambda op=op, p=picture, s=strengths[i]: tf.ensure_shape(op(p, s), p.shape)
                    for op in ops
                ]
                picture = tf.clip_by_value(tf.switch_case(which[i], branches), 0.0, 255.0)
            return tf.cast(tf.round(picture), tf.uint8)

        spec = tf.TensorSpec(value.shape[1:], tf.uint8)
        return tf.map_fn(one, (value, chosen, strength), fn_output_signature=spec)

    return apply
