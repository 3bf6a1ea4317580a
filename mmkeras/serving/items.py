"""What people hold (files, bytes, texts, pictures, arrays) as the tensors of a request."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkeras.serving.media import png
from mmkeras.serving.signature import Input

_MEDIA = (".avi", ".bmp", ".gif", ".jpeg", ".jpg", ".mp4", ".png", ".wav", ".webp")


def column(name: str, spec: Input, items: Sequence | None, count: int) -> np.ndarray:
    """Returns one input of a request, (count, *shape).

    An input of strings takes, per row, bytes as they are, `str` as UTF-8 (one that names a media
    file is refused), a `pathlib.Path` as the bytes of its file, a PIL picture or uint8 array as a
    PNG; with inner axes (several items of one sample, the cells of a table) as many of them as the
    axis holds, numbers among them as training reads them (3.0 is "3"). An input of numbers takes
    arrays of its shape; where the shape leaves a size open, shorter rows are filled up with the
    default (NaN: a step that is not there). None, as a row or within one, is the default.

    Args:
        name: of the input, for error messages.
        spec: from the metadata.
        items: B rows, or None where the input is left out.
        count: B.

    Raises:
        ValueError, TypeError, OSError: the text names the input and the row.
    """
    if items is None:
        items = [None] * count
    rows = []
    for row, item in enumerate(items):
        try:
            rows.append(_strings(spec, item) if spec.dtype.kind == "O" else _numbers(spec, item))
        except (OSError, TypeError, ValueError) as error:
            kind = ValueError if isinstance(error, UnicodeError) else type(error)
            raise kind(f"Input {name!r}, row {row}: {error}") from error
    return _stacked(spec, rows)


def _default(spec: Input) -> np.ndarray:
    if spec.default is None:
        raise ValueError("it has no default, so every row must be given. Received: None.")
    return spec.default


def _strings(spec: Input, item: Any, shape: tuple | None = None) -> np.ndarray:
    """Returns an item as an object array of bytes of the inner shape."""
    shape = spec.shape if shape is None else shape
    if item is None:
        sizes = tuple(size or 1 for size in shape)
        return np.full(sizes, _default(spec).ravel()[0], object)
    if not shape:
        out = np.empty((), object)
        out[()] = _bytes(item, cell=bool(spec.shape))
        return out
    parts = list(item) if isinstance(item, Sequence | np.ndarray) else None
    if isinstance(item, str | bytes) or parts is None or shape[0] not in (None, len(parts)):
        size = "any number of" if shape[0] is None else shape[0]
        got = type(item).__name__ if parts is None or isinstance(item, str | bytes) else len(parts)
        raise ValueError(
            f"a row must hold {size} items. Received: {got}. Write None for those not there."
        )
    inner = [_strings(spec, part, shape[1:]) for part in parts]
    return np.stack(inner) if inner else np.empty((0, *(n or 0 for n in shape[1:])), object)


def _bytes(item: Any, cell: bool) -> bytes:
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if isinstance(item, str):
        if item.lower().endswith(_MEDIA) and len(item) < 1024 and os.path.isfile(item):
            raise ValueError(
                f"a str is text, and this one names a file. Received: {item!r}. Write "
                "pathlib.Path(...) to send what is in the file, or encode the text as bytes."
            )
        return item.encode("utf-8")
    if isinstance(item, os.PathLike):
        return Path(item).read_bytes()
    if type(item).__module__.split(".")[0] == "PIL":
        return png(np.asarray(item if item.mode in ("L", "RGB") else item.convert("RGB")))
    if isinstance(item, np.ndarray) and item.ndim:
        return png(item)
    if cell and type(item).__name__ in ("NAType", "NaTType"):  # of pandas
        return b""
    if cell and isinstance(item, int | float | np.number | np.bool_):
        whole = isinstance(item, float | np.floating) and float(item).is_integer()
        item = int(item) if whole and abs(item) < 2**53 else item
        return b"" if item != item else str(item).encode("ascii")
    raise TypeError(
        "it must be bytes, str (text), pathlib.Path (a file), a PIL picture, or a uint8 array of "
        f"pixels. Received: {type(item).__name__}. Encode it, e.g. by mk.serving.wav."
    )


def _numbers(spec: Input, item: Any) -> np.ndarray:
    if item is None:
        return _default(spec)
    if isinstance(item, list | tuple) and spec.dtype.kind == "f":
        item = [np.nan if part is None else part for part in item]
    try:
        given = np.asarray(item)
        array = given.astype(spec.dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"it must hold numbers ({error}). Received: {item!r}.") from error
    if given.dtype.kind in "OSU" or (spec.dtype.kind != "f" and not np.array_equal(array, given)):
        raise ValueError(f"it must hold {spec.dtype} numbers. Received: {item!r}.")
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in spec.shape) + ")"
    if array.ndim != len(spec.shape) or any(
        size not in (None, held) for size, held in zip(spec.shape, array.shape, strict=True)
    ):
        raise ValueError(f"its shape must be {wanted}. Received: {array.shape}.")
    return array


def _stacked(spec: Input, rows: list[np.ndarray]) -> np.ndarray:
    """Stacks rows of a batch; what is shorter than the longest is filled up."""
    # At least 1, or nested lists would lose the sizes behind an axis without entries.
    longest = tuple(max(1, *sizes) for sizes in zip(*(row.shape for row in rows), strict=True))
    if all(row.shape == longest for row in rows):
        return np.stack(rows)
    fill = b"" if spec.dtype.kind == "O" else 0
    if spec.default is not None and spec.default.size:
        fill = spec.default.ravel()[0]
    out = np.full((len(rows), *longest), fill, spec.dtype)
    for row, values in zip(out, rows, strict=True):
        row[tuple(slice(size) for size in values.shape)] = values
    return out
