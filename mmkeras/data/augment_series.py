"""Seeded augmentation of decoded series (Um et al. 2017); training only.

`jitter` (`sigma`: deviation of the noise, in units of the decoded values, which are standard
deviations of their channel when the spec normalises), `scaling` (`sigma` of a factor around 1 per
channel), `rotation` (`sigma` of an angle in radians: three-axis sensors worn a little differently),
`time_warp` (`sigma` of the speed around 1, at `knots` times). The mask stays as it is:
only steps that are there are read, and what stands behind the mask is cut off afterwards.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality, checks
from mmkeras.data.draws import Draws

_SLOWEST = 0.1  # share of the usual speed


def _jitter(modality: Modality, sigma: float = 0.05) -> Callable:
    """Adds white noise to every step of every channel."""
    checks.real("sigma", sigma)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        return value + sigma * draws.normal(tf.shape(value)[0], *modality.shape)

    return apply


def _scaling(modality: Modality, sigma: float = 0.1) -> Callable:
    """Multiplies every channel by a factor of its own, the same at all steps."""
    checks.real("sigma", sigma)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        return value * (1.0 + sigma * draws.normal(tf.shape(value)[0], 1, modality.channels))

    return apply


def _rotation(modality: Modality, sigma: float = 0.2) -> Callable:
    """Turns every three channels, x, y and z of a sensor, by one rotation per sample.

    The rotation vector (axis times angle) has three normal entries of deviation `sigma`; the turn
    is made in the units of the raw numbers, before they were standardised.
    """
    checks.real("sigma", sigma)
    if modality.channels % 3:
        raise ValueError(
            "'rotation' turns channels in threes (x, y, z). Received: a Series of "
            f"{modality.channels} channels. Leave it out, or declare one Series per sensor."
        )
    mean = tf.constant(modality.mean or (0.0,) * modality.channels)
    scale = tf.constant(modality.scale or (1.0,) * modality.channels)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        turn = _turns(sigma * draws.normal(tf.shape(value)[0], 3))
        raw = tf.reshape(value * scale + mean, (-1, modality.steps * modality.channels // 3, 3))
        turned = tf.reshape(tf.matmul(raw, turn, transpose_b=True), tf.shape(value))
        return (turned - mean) / scale

    return apply


def _turns(vectors: Any) -> Any:
    """Returns the rotation matrices (B, 3, 3) of rotation vectors (B, 3) (Rodrigues' formula)."""
    angle = tf.norm(vectors, axis=1)[:, None]
    x, y, z = tf.unstack(tf.math.divide_no_nan(vectors, angle), axis=1)
    zero = tf.zeros_like(x)
    cross = tf.reshape(tf.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1), (-1, 3, 3))
    sine, cosine = tf.sin(angle)[:, :, None], tf.cos(angle)[:, :, None]
    return tf.eye(3) + sine * cross + (1.0 - cosine) * tf.matmul(cross, cross)


def _time_warp(modality: Modality, sigma: float = 0.2, knots: int = 4) -> Callable:
    """Runs time faster here and slower there; the first and the last real step stay in place.

    The speed is drawn at `knots` even times (never below a tenth) and runs straight between them.
    A step is read between its two neighbours on the warped time, from the one that is there when
    the other is not, and stays as it was when neither is.
    """
    checks.real("sigma", sigma)
    checks.whole("knots", knots, 2)
    steps = modality.steps
    place = tf.linspace(0.0, float(knots - 1), steps)
    below = tf.clip_by_value(tf.cast(tf.floor(place), tf.int32), 0, knots - 2)
    share = place - tf.cast(below, tf.float32)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        speed = 1.0 + sigma * draws.normal(tf.shape(value)[0], knots)
        speed = tf.maximum(speed, _SLOWEST)
        speed = tf.gather(speed, below, axis=1) * (1 - share) + (
            tf.gather(speed, below + 1, axis=1) * share
        )
        numbers = tf.range(steps)[None, :]
        last = tf.reduce_max(tf.where(mask, numbers, 0), axis=1, keepdims=True)  # (B, 1)
        # Time passed before each step, 0 at the first and `last` at the last real one.
        time = tf.cumsum(speed, axis=1, exclusive=True)
        whole = tf.gather(time, last, batch_dims=1)
        time = time / tf.maximum(whole, _SLOWEST) * tf.cast(last, tf.float32)
        return _read(value, mask, tf.minimum(time, tf.cast(last, tf.float32)))

    return apply


def _read(value: Any, mask: Any, time: Any) -> Any:
    """Returns the values (B, T, C) at fractional steps (B, T), between real neighbours alone."""
    first = tf.cast(tf.floor(time), tf.int32)
    second = tf.cast(tf.math.ceil(time), tf.int32)
    share = (time - tf.floor(time))[:, :, None]
    parts = []
    for index, weight in ((first, 1.0 - share), (second, share)):
        real = tf.cast(tf.gather(mask, index, batch_dims=1), tf.float32)[:, :, None]
        parts.append((tf.gather(value, index, batch_dims=1), weight * real))
    total = parts[0][1] + parts[1][1]
    mixed = sum(part * weight for part, weight in parts) / tf.where(total > 0, total, 1.0)
    return tf.where(total > 0, mixed, value)


OPS = {
    "jitter": _jitter,
    "scaling": _scaling,
    "rotation": _rotation,
    "time_warp": _time_warp,
}
