"""Arrays as the bytes of a file, with the standard library alone."""

import io
import struct
import wave
import zlib

import numpy as np


def png(pixels: np.ndarray) -> bytes:
    """Returns pixels as a PNG file, without loss.

    Args:
        pixels: uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): grey, RGB or RGBA in 0..255.
    """
    pixels = np.asarray(pixels)
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    colour = {1: 0, 3: 2, 4: 6}.get(shape[-1]) if len(shape) == 3 else None
    if pixels.dtype != np.uint8 or colour is None or not pixels.size:
        raise ValueError(
            "A picture must be uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Received: "
            f"{pixels.dtype} {pixels.shape}. Scale it to 0..255 and cast it. (Sound "
            "becomes bytes by mk.serving.wav.)"
        )
    height, width, channels = shape
    lines = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with filter 0
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    """Returns samples as a WAV file of 16-bit PCM, mono.

    Args:
        samples: floats (S,) in [-1, 1], clipped beyond, or int16.
        rate_hz: the sampling rate; it must be the one that the model was trained on.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or (samples.dtype.kind != "f" and samples.dtype != np.int16):
        raise ValueError(
            "Samples must be floats in [-1, 1] or int16, (S,). Received: "
            f"{samples.dtype} {samples.shape}. Mix several channels down first."
        )
    if samples.dtype.kind == "f":
        samples = np.clip(np.round(samples * 32768.0), -32768, 32767)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(int(rate_hz))
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
