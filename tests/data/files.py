"""Encoded pictures and sounds by PIL and `wave`, and batches as NumPy."""

import io
import wave
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image as Pillow


def encode(pixels: np.ndarray | Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Returns a picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels_of(data: bytes, channels: int = 3) -> np.ndarray:
    """Returns the first frame of a file as PIL reads it, (h, w, channels)."""
    picture = Pillow.open(io.BytesIO(data)).convert("RGB" if channels == 3 else "L")
    return np.asarray(picture).reshape(picture.height, picture.width, channels)


def wav(samples: np.ndarray, rate: int = 8000, channels: int = 1, width: int = 2) -> bytes:
    """Returns integer samples as the bytes of a WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples).astype(f"<i{width}").tobytes())
    return buffer.getvalue()


def samples_of(data: bytes) -> np.ndarray:
    """Returns the int16 samples of a mono WAV file."""
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def numpy(dataset: tf.data.Dataset) -> list[tuple]:
    """Returns the batches of a dataset as NumPy arrays."""
    return list(dataset.as_numpy_iterator())


def ids(dataset: tf.data.Dataset, name: str = "v") -> list[list[int]]:
    """Returns per batch the first number of a vector modality."""
    return [batch[0][name][:, 0].astype(int).tolist() for batch in numpy(dataset)]


def same(first: Any, second: Any) -> None:
    """Asserts that two nested structures agree bit for bit, dtypes and shapes included."""
    tf.nest.assert_same_structure(first, second)
    for a, b in zip(tf.nest.flatten(first), tf.nest.flatten(second), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, b.dtype, a.shape, b.shape)
        np.testing.assert_array_equal(a, b)
