"""Sounds: WAV bytes or arrays in, samples out."""

import io
import struct
import wave
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Audio
from mmkeras.data.columns import Column, decoded, encoded_items, is_array
from mmkeras.data.sources import Rows, missing

_HEADER = 44  # bytes of the usual WAV header


def column(name: str, modality: Audio, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns paths, bytes, or (of arrays) the waves at their length."""
    cells = rows.column(source)
    if not is_array(cells):
        return encoded_items(rows, cells, archive)
    return decoded(name, modality, rows, *_waves(name, modality, rows, cells))


def _waves(name: str, modality: Audio, rows: Rows, cells: Any) -> tuple[np.ndarray, np.ndarray]:
    values = np.zeros((len(cells), modality.num_samples), np.float32)
    mask = np.zeros((len(cells), modality.num_samples), bool)
    for row, cell in enumerate(cells):
        if missing(cell):
            continue
        wave_ = np.asarray(cell)
        # Written so that NaN fails the comparison.
        if wave_.ndim != 1 or wave_.dtype.kind != "f" or not (np.abs(wave_) <= 1.0).all():
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a wave must be a "
                f"1-D float array in [-1, 1), without NaN. Received: shape {wave_.shape}, "
                f"dtype {wave_.dtype}, {np.count_nonzero(wave_ != wave_)} NaN, largest "
                f"{np.abs(wave_).max(initial=0)}. Divide 16-bit samples by 32768; None is an "
                "absent sound."
            )
        part = wave_[: modality.num_samples]
        values[row, : len(part)], mask[row, : len(part)] = part, True
    return values, mask


def encode(modality: Audio, samples: np.ndarray, mask: np.ndarray) -> bytes:
    """Returns decoded samples as 16-bit WAV, to the last real one."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(modality.rate_hz)
        end = np.flatnonzero(mask)[-1] + 1
        pcm = np.clip(np.round(samples[:end] * 32768), -32768, 32767)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()


class Decoder(tf.Module):
    """WAV bytes (B,), 16-bit PCM, mono, at the declared rate -> float32 (B, S), bool (B, S)."""

    def __init__(self, modality: Audio) -> None:
        """Keeps the spec."""
        super().__init__()
        self.modality = modality

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Decodes a batch: at once when all its headers are plain, else one item at a time."""
        size, most = self.modality.num_samples, self.modality.max_samples
        largest = tf.reduce_max(tf.pad(tf.strings.length(raw), [[0, 1]])) - _HEADER
        check = tf.debugging.Assert(
            largest // 2 <= most,
            [
                f"must hold at most {most} samples of 16 bits, as `max_samples` declares. Received "
                "bytes for:",
                largest // 2,
            ],
        )
        with tf.control_dependencies([check]):
            raw = tf.identity(raw)
        plain = tf.reduce_all(self._plain(raw) | (tf.strings.length(raw) == 0))
        value, count = tf.cond(plain, lambda: self._at_once(raw), lambda: self._each(raw))
        value, count = tf.ensure_shape(value, (None, size)), tf.ensure_shape(count, (None,))
        return value, tf.sequence_mask(count, size)

    def _plain(self, raw: Any) -> Any:
        """(B,) whether an item is 44 bytes of header as expected, and then samples alone."""
        length, rate = tf.strings.length(raw), self.modality.rate_hz
        head = tf.io.decode_raw(raw, tf.uint8, fixed_length=_HEADER)
        known = struct.pack("<4sIHHIIHH4s", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data")
        same = tf.reduce_all(head[:, 12:40] == tf.constant(list(known), tf.uint8), axis=1)
        riff = tf.reduce_all(head[:, :4] == tf.constant(list(b"RIFF"), tf.uint8), axis=1)
        wave = tf.reduce_all(head[:, 8:12] == tf.constant(list(b"WAVE"), tf.uint8), axis=1)
        declared = tf.reduce_sum(
            tf.cast(head[:, 40:44], tf.int64) * tf.constant([1, 2**8, 2**16, 2**24], tf.int64),
            axis=1,
        )
        whole = (declared == tf.cast(length - _HEADER, tf.int64)) & (declared > 0)
        return riff & wave & same & whole & (length % 2 == 0)

    def _at_once(self, raw: Any) -> tuple[Any, Any]:
        size = self.modality.num_samples
        pcm = tf.io.decode_raw(raw, tf.int16, fixed_length=_HEADER + 2 * size)
        count = tf.clip_by_value((tf.strings.length(raw) - _HEADER) // 2, 0, size)
        return tf.cast(pcm[:, _HEADER // 2 :], tf.float32) / 32768.0, count

    def _each(self, raw: Any) -> tuple[Any, Any]:
        size = self.modality.num_samples
        spec = (tf.TensorSpec((size,), tf.float32), tf.TensorSpec((), tf.int32))

        def one(item: Any) -> Any:
            return tf.cond(
                tf.strings.length(item) > 0,
                lambda: self._decode(item),
                lambda: (tf.zeros((size,)), tf.constant(0)),
            )

        return tf.map_fn(one, raw, fn_output_signature=spec)

    def _decode(self, item: Any) -> Any:
        wave, rate = tf.audio.decode_wav(item)  # (samples, channels)
        expected = self.modality.rate_hz
        with tf.control_dependencies(
            [
                tf.debugging.Assert(
                    tf.equal(rate, expected),
                    [f"the sampling rate must be {expected} Hz as declared. Received Hz:", rate],
                ),
                tf.debugging.Assert(
                    tf.equal(tf.shape(wave)[1], 1),
                    ["the sound must have one channel. Received channels:", tf.shape(wave)[1]],
                ),
            ]
        ):
            wave = tf.identity(wave)[: self.modality.num_samples, 0]
        count = tf.shape(wave)[0]
        return tf.pad(wave, [[0, self.modality.num_samples - count]]), count
