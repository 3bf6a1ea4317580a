"""Ways in which an item of a request goes wrong: name -> (random generator, good item) -> item."""

import functools
import io
import struct
import wave
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutation = Callable[[np.random.Generator, Any], Any]


def truncated(rng: np.random.Generator, item: bytes) -> bytes:
    """The beginning."""
    return item[: rng.integers(1, len(item))]


def flipped(rng: np.random.Generator, item: bytes) -> bytes:
    """Up to eight other bytes, half of the time among the first hundred."""
    data = bytearray(item)
    end = len(data) if rng.random() < 0.5 else min(100, len(data))
    for place in rng.integers(0, end, rng.integers(1, 9)):
        data[place] ^= int(rng.integers(1, 256))
    return bytes(data)


def noise(rng: np.random.Generator, item: bytes) -> bytes:
    """Random bytes, half of the time behind the true first eight."""
    return item[: 8 * int(rng.integers(2))] + rng.bytes(int(rng.integers(1, 500)))


def trailing(rng: np.random.Generator, item: bytes) -> bytes:
    """Random bytes behind the end."""
    return item + rng.bytes(int(rng.integers(1, 500)))


def empty(rng: np.random.Generator, item: bytes) -> bytes:
    """Nothing, which is an absent item."""
    return b""


def foreign(rng: np.random.Generator, item: bytes) -> bytes:
    """The beginning of another format, then noise."""
    starts = (b"RIFF\x64\0\0\0WEBPVP8 ", b"%PDF-1.7", b"\xff\x0a", b"PK\3\4", b"ID3\4", b"\x1a\x45")
    return starts[rng.integers(len(starts))] + rng.bytes(200)


def png(width: int, height: int, data: bytes = b"", bits: int = 1) -> bytes:
    """A grey PNG with right checksums, whatever it declares."""
    made = b"\x89PNG\r\n\x1a\n"
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    for name, chunk in ((b"IHDR", head), (b"IDAT", data), (b"IEND", b"")):
        body = name + chunk
        made += struct.pack(">I", len(chunk)) + body + struct.pack(">I", zlib.crc32(body))
    return made


def gif(clip: np.ndarray) -> bytes:
    """A grey GIF of uint8 (N, H, W), each below 128, not compressed: a fresh table every 100."""
    made = b"GIF89a" + struct.pack("<HHBBB", *clip.shape[:0:-1], 0xE6, 0, 0)
    made += bytes(np.repeat(np.arange(128, dtype=np.uint8) * 2, 3))
    for frame in clip:
        flat = frame.tobytes()
        parts = (b"\x80" + flat[i : i + 100] for i in range(0, len(flat), 100))
        codes = b"".join(parts) + b"\x81"
        made += b"\x21\xf9\x04\0\x0a\0\0\0\x2c"
        made += struct.pack("<HHHHB", 0, 0, *frame.shape[::-1], 0) + b"\x07"
        for i in range(0, len(codes), 255):
            block = codes[i : i + 255]
            made += bytes([len(block)]) + block
        made += b"\0"
    return made + b"\x3b"


@functools.cache
def _bomb(side: int) -> bytes:
    return png(side, side, zlib.compress(bytes((side // 8 + 1) * side), 9))


def bomb(rng: np.random.Generator, item: bytes) -> bytes:
    """A PNG of some kilobytes that is as large as it says: 8192 or 2048 pixels a side."""
    return _bomb(int(rng.choice([8192, 2048])))


def scans(rng: np.random.Generator, item: bytes) -> bytes:
    """A JPEG of 4096 x 2048 pixels with 20 or 20,000 empty scans; of any other item, a bomb."""
    if item[:3] != b"\xff\xd8\xff":
        return bomb(rng, item)
    place = item.index(b"\xff\xc0") + 5
    item = item[:place] + struct.pack(">HH", 2048, 4096) + item[place + 4 :]
    start = item.index(b"\xff\xda")
    head = item[start : start + 2 + struct.unpack(">H", item[start + 2 : start + 4])[0]]
    return item[:start] + int(rng.choice([20, 20_000])) * head + item[start:]


def declared(rng: np.random.Generator, item: bytes) -> bytes:
    """A PNG, JPEG, BMP or GIF whose header declares a huge picture; of any other item, a PNG."""
    width, height = (int(n) for n in rng.integers(6000, 65_500, 2))
    if item[:3] == b"\xff\xd8\xff":
        place = item.index(b"\xff\xc0") + 5
        return item[:place] + struct.pack(">HH", height, width) + item[place + 4 :]
    kind = rng.integers(3)
    if kind == 0:
        scale = int(rng.choice([1, 1000, 60_000]))
        return png(width * scale % 2**32, height * scale % 2**32, zlib.compress(bytes(100)))
    if kind == 1:
        side = struct.pack("<ii", width, -height if rng.random() < 0.5 else height)
        return b"BM" + bytes(12) + struct.pack("<I", 40) + side + struct.pack("<HH", 1, 24) + item
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\2\x44\1\0\x3b"


def frames(rng: np.random.Generator, item: bytes) -> bytes:
    """A GIF of tens of thousands of frames."""
    side = int(rng.integers(100, 1000))
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\2\x44\1\0"
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return head + int(rng.integers(10_000, 30_000)) * frame + b"\x3b"


def _wav(item: bytes, channels: int = 1, width: int = 2, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(item[44 : 44 + (len(item) - 44) // 8 * 8])
    return buffer.getvalue()


def rate(rng: np.random.Generator, item: bytes) -> bytes:
    """Another sampling rate."""
    return _wav(item, rate=int(rng.choice([1, 4000, 11_025, 44_100, 2**31 - 1])))


def stereo(rng: np.random.Generator, item: bytes) -> bytes:
    """Two or four channels."""
    return _wav(item, channels=int(rng.choice([2, 4])))


def width(rng: np.random.Generator, item: bytes) -> bytes:
    """Samples of 8 or 32 bits."""
    return _wav(item, width=int(rng.choice([1, 4])))


def lengths(rng: np.random.Generator, item: bytes) -> bytes:
    """Huge, odd or no lengths of the chunks of a WAV."""
    place = int(rng.choice([4, 16, 40]))
    size = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]))
    return item[:place] + struct.pack("<I", size) + item[place + 4 :]


def not_utf8(rng: np.random.Generator, item: bytes) -> bytes:
    """A byte, half a character, a surrogate or an overlong form among the text."""
    parts = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80")
    place = int(rng.integers(0, len(item)))
    return item[:place] + parts[rng.integers(len(parts))] + item[place:]


def odd_text(rng: np.random.Generator, item: bytes) -> bytes:
    """Controls, right to left, joined or combined characters, or 100,000 letters."""
    parts = ("\0", "\u202e", "e\u0301" * 50, "👩‍👩‍👧", "\t\n\r", " " * 999, "a" * 100_000)
    return item + parts[rng.integers(len(parts))].encode()


def long_text(rng: np.random.Generator, item: bytes) -> bytes:
    """Two megabytes."""
    return b"ab " * 700_000


def cell(rng: np.random.Generator, item: np.ndarray) -> np.ndarray:
    """A cell of a table that is no number, too large, empty, or no text."""
    parts = (b"nan", b"-inf", b"1e999", b"0x10", b"1,5", b"9" * 400, b"", b"1e30", b"\xff", b"x")
    item = item.copy()
    item[rng.integers(len(item))] = parts[rng.integers(len(parts))]
    return item


def number(rng: np.random.Generator, item: np.ndarray) -> np.ndarray:
    """NaN, infinity, a huge or a tiny number in one place or in all."""
    value = rng.choice(np.float32([np.nan, np.inf, -np.inf, 3e38, -1e30, 1e12, 1e-40, 9e4]))
    item = item.copy()
    item[... if rng.random() < 0.2 else tuple(rng.integers(n) for n in item.shape)] = value
    return item


def steps(rng: np.random.Generator, item: np.ndarray) -> np.ndarray:
    """No step, or a hundred thousand."""
    return np.resize(item, (int(rng.choice([0, 1, 100_000])), *item.shape[1:]))


def shape(rng: np.random.Generator, batch: np.ndarray) -> Any:
    """Of a whole input (B, ...): other axes, other counts of rows, or rows of several lengths."""
    kind = rng.integers(6)
    if kind == 0:
        return batch[..., None]
    if kind == 1:
        return batch[0] if batch.ndim > 1 else batch[0:1].reshape(())
    if kind == 2:
        return np.concatenate([batch, batch, batch])
    if kind == 3:
        return batch[:0]
    if kind == 4:
        return np.stack([batch] * 3, axis=-1)
    return [batch[0], [batch[1], [batch[0]]]]


def dtype(rng: np.random.Generator, batch: np.ndarray) -> Any:
    """Of a whole input (B, ...): values of another type."""
    if batch.dtype == object:
        others = (np.zeros(batch.shape, np.float32), np.full(batch.shape, None), {"b64": "AA=="})
    else:
        others = (np.full(batch.shape, b"x", object), np.full(batch.shape, "many"), None)
    return others[rng.integers(len(others))]


_BYTES = (truncated, flipped, noise, trailing, empty, foreign)
_PICTURE = (*_BYTES, declared, bomb, scans)
ITEM: dict[str, tuple[Mutation, ...]] = {
    "image": _PICTURE,
    "several": _PICTURE,
    "video": (*_PICTURE, frames),
    "audio": (*_BYTES, declared, rate, stereo, width, lengths),
    "text": (truncated, flipped, noise, empty, not_utf8, odd_text, long_text),
    "table": (cell,),
    "vector": (number,),
    "series": (number, steps),
}
"""Kind of a modality -> what may happen to one item."""

WHOLE: tuple[Mutation, ...] = (shape, dtype)
"""What may happen to all items of an input together."""
