"""Augmentation of sounds: shift, noise, gain, time stretch."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from mmkeras.core import Audio, checks
from mmkeras.data.draws import Draws


def _time_shift(modality: Audio, seconds: float = 0.1) -> Callable:
    """Moves the wave by up to +-`seconds`; what leaves is lost, zeros come in."""
    limit = round(seconds * modality.rate_hz)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        size = modality.num_samples
        shift = draws.uniform(tf.shape(value)[0], 1, low=-limit, high=limit + 1, dtype=tf.int32)
        source = tf.range(size)[None, :] - shift
        inside = (source >= 0) & (source < size)
        moved = tf.gather(value, tf.clip_by_value(source, 0, size - 1), batch_dims=1)
        return tf.where(inside, moved, 0.0)

    return apply


def _noise(modality: Audio, snr_db: float = 20.0) -> Callable:
    """Adds white noise at `snr_db` decibels below the power of each sample's real part."""

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        real = tf.cast(mask, tf.float32)
        count = tf.maximum(tf.reduce_sum(real, axis=1, keepdims=True), 1.0)
        power = tf.reduce_sum(value**2 * real, axis=1, keepdims=True) / count
        noise = draws.normal(tf.shape(value)[0], modality.num_samples)
        return value + noise * tf.sqrt(power * 10.0 ** (-snr_db / 10.0))

    return apply


def _gain(modality: Audio, db: float = 6.0) -> Callable:
    """Louder or softer by up to +-`db` decibels; what leaves [-1, 1] is clipped."""
    checks.real("db", db)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], 1, low=-db, high=db)
        return tf.clip_by_value(value * tf.pow(10.0, drawn / 20.0), -1.0, 1.0)

    return apply


def _time_stretch(
    modality: Audio, rate: Sequence[float] = (0.8, 1.25), window_seconds: float = 0.064
) -> Callable:
    """Plays faster or slower by a factor in `rate`, its logarithm uniform, at the same pitch.

    A phase vocoder (Flanagan & Golden 1966; Laroche & Dolson 1999) with Hann windows and a hop of a
    quarter. A slower sound loses its end, a faster one ends in silence: its mask stays.
    """
    low, high = (checks.real("rate", factor, 0.1, 10.0) for factor in rate)
    window = 4 * max(1, round(modality.rate_hz * window_seconds / 4))
    hop, size = window // 4, modality.num_samples
    pad = window  # so that the ends are covered by as many windows as the middle
    count = 1 + (size + 2 * pad - window + hop - 1) // hop
    advance = 2.0 * math.pi * hop * tf.range(window // 2 + 1, dtype=tf.float32) / window
    synthesis = tf.signal.inverse_stft_window_fn(hop)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], 1)
        factor = tf.exp(math.log(low) + (math.log(high) - math.log(low)) * drawn)
        wave = tf.pad(value, [[0, 0], [pad, pad + window]])
        frames = tf.signal.stft(wave, window, hop, fft_length=window)[:, : count + 1]
        # Where the sound begins, at sample `pad`, it stays.
        start = pad / hop
        place = tf.maximum(start + (tf.range(count, dtype=tf.float32) - start) * factor, 0.0)
        below = tf.cast(tf.floor(place), tf.int32)
        share = (place - tf.floor(place))[..., None]
        inside = tf.cast(below < count, tf.float32)[..., None]
        below = tf.minimum(below, count - 1)
        first = tf.gather(frames, below, batch_dims=1)  # (B, frames, bins)
        second = tf.gather(frames, below + 1, batch_dims=1)
        size_ = ((1.0 - share) * tf.abs(first) + share * tf.abs(second)) * inside
        step = tf.math.angle(second) - tf.math.angle(first) - advance
        step = step - 2.0 * math.pi * tf.round(step / (2.0 * math.pi)) + advance
        phase = tf.math.angle(first[:, :1]) + tf.cumsum(step, axis=1, exclusive=True)
        made = tf.complex(size_ * tf.cos(phase), size_ * tf.sin(phase))
        out = tf.signal.inverse_stft(made, window, hop, window, window_fn=synthesis)
        return tf.clip_by_value(tf.ensure_shape(out[:, pad : pad + size], (None, size)), -1.0, 1.0)

    return apply


OPS: dict[str, Callable] = {
    "time_shift": _time_shift,
    "noise": _noise,
    "gain": _gain,
    "time_stretch": _time_stretch,
}
