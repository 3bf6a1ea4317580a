"""One modality of one split: raw or decoded items, each stored once, and a row -> item index."""

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.decode import ImageDecoder, decoder
from mmkeras.data.sources import Rows, missing, read_members


@dataclass(frozen=True)
class Column:
    """Items of a modality.

    Attributes:
        form: "path" (files to read), "raw" (bytes, strings or numbers), "decoded" (tensors).
        items: (U, ...) one entry per distinct item; an absent one is "" or NaN.
        index: (N,) row -> item.
        mask: (U, *mask_shape) of decoded items, else None.
        faults: item -> reason, of items known to be unreadable before any decoding.
        origin: the column that was decoded into this one, if any: what a request would hold.
    """

    form: str
    items: np.ndarray
    index: np.ndarray
    mask: np.ndarray | None = None
    origin: "Column | None" = None
    faults: dict[int, str] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "Column":
        """Returns some rows."""
        origin = None if self.origin is None else self.origin.take(rows)
        return replace(self, index=self.index[rows], origin=origin)

    def absent(self) -> np.ndarray:
        """(N,) True where the row has no item; for decoded items, where its mask is all false."""
        if self.form == "decoded":
            return ~self.mask.reshape(len(self.mask), -1).any(axis=1)[self.index]
        return is_absent(self.items)[self.index]

    def without(self, items: np.ndarray) -> "Column":
        """Returns the column with these items made absent."""
        held = self.items.copy()
        held[items] = np.nan if held.dtype.kind == "f" else b""
        return Column(self.form, held, self.index, self.mask)


def is_absent(items: np.ndarray) -> np.ndarray:
    """(U,) True for "" and for numbers that are all NaN."""
    if items.dtype.kind == "f":
        return np.isnan(items).all(axis=1)
    return np.array([item == b"" for item in items], bool)


def make(
    name: str, modality: Modality, rows: Rows, source: str | Sequence[str], archive: Any = None
) -> Column:
    """Returns the raw (or, for arrays, decoded) column of a modality.

    Args:
        name: of the modality, for messages and for the key of an explicit mask.
        modality: its spec.
        rows: the source.
        source: column name; several for the numbers of a Vector.
        archive: zip or tar file whose members the cells name.
    """
    if modality.kind == "vector":
        return _numbers(name, modality, rows, source)
    cells = rows.column(source)
    if modality.kind != "text" and _is_array(cells):
        return _decoded(name, modality, rows, cells)
    if modality.kind == "text":
        items = [b"" if missing(c) else _encoded(c) for c in cells]
        return _unique("raw", items)
    if archive is not None:
        return _members(cells, archive)
    if any(isinstance(c, bytes) for c in cells):
        return _unique("raw", [b"" if missing(c) else bytes(c) for c in cells])
    paths = [b"" if missing(c) else _path(rows, c) for c in cells]
    return _unique("path", paths)


def _encoded(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode("utf-8")


def _path(rows: Rows, cell: Any) -> bytes:
    path = str(cell)
    return (str(rows.root / path) if rows.root is not None else path).encode("utf-8")


def _is_array(cells: Any) -> bool:
    return getattr(next((c for c in cells if not missing(c)), None), "ndim", 0) > 0


def _unique(form: str, items: list[bytes]) -> Column:
    positions: dict[bytes, int] = {}
    index = np.array([positions.setdefault(item, len(positions)) for item in items], np.int64)
    return Column(form, np.array(list(positions), object), index)


def _members(cells: Any, archive: Any) -> Column:
    held, broken = read_members(archive, (str(c) for c in cells if not missing(c)))
    # A member that is not there keeps its name as its item, so that its rows can be told.
    items = [b"" if missing(c) else held.get(str(c), str(c).encode("utf-8")) for c in cells]
    column = _unique("raw", items)
    faults = {
        int(item): broken.get(str(c), f"the archive {str(archive)!r} has no member {c!r}")
        for item, c in zip(column.index, cells, strict=True)
        if not missing(c) and str(c) not in held
    }
    return replace(column, faults=faults)


def _numbers(name: str, modality: Modality, rows: Rows, source: str | Sequence[str]) -> Column:
    if isinstance(source, str):
        cells = rows.column(source)
    else:
        cells = list(zip(*(rows.column(s) for s in source), strict=True))
    values = np.full((len(rows), modality.size), np.nan, np.float32)
    for row, cell in enumerate(cells):
        if missing(cell) or (isinstance(cell, tuple) and all(map(missing, cell))):
            continue
        try:
            numbers = np.asarray(
                [np.nan if missing(c) else c for c in np.atleast_1d(np.asarray(cell, object))],
                np.float32,
            )
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: must hold numbers. "
                f"Received: {cell!r}. Correct the row, or leave the cell empty."
            ) from error
        if len(numbers) != modality.size:
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: must hold "
                f"{modality.size} numbers, as Vector(size=...) declares. Received: {len(numbers)}. "
                "Correct the row or the size."
            )
        values[row] = numbers
    return Column("raw", values, np.arange(len(rows)))


def _decoded(name: str, modality: Modality, rows: Rows, cells: Any) -> Column:
    """Arrays that are tensors already: uint8 pictures or float waves."""
    count = len(cells)
    if modality.kind == "image":
        values, mask = _pictures(name, modality, rows, cells)
    else:
        values = np.zeros((count, modality.num_samples), np.float32)
        mask = np.zeros((count, modality.num_samples), bool)
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
    if f"{name}_mask" in rows.columns:
        given = np.asarray(rows.columns[f"{name}_mask"])
        if given.shape != (count, *modality.mask_shape) or given.dtype != bool:
            raise ValueError(
                f"The mask {name}_mask must be a bool array of shape "
                f"{(count, *modality.mask_shape)}. Received: shape {given.shape}, dtype "
                f"{given.dtype}. Give True where the data are real."
            )
        mask = mask & given
        values[~mask] = 0
    return Column("decoded", values, np.arange(count), mask)


def _pictures(
    name: str, modality: Modality, rows: Rows, cells: Any
) -> tuple[np.ndarray, np.ndarray]:
    fit = ImageDecoder(modality).fit
    values = np.zeros((len(cells), *modality.shape), np.uint8)
    mask = np.array([not missing(cell) for cell in cells])
    for row in np.flatnonzero(mask):
        cell = cells[row]
        picture = np.asarray(cell)
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.dtype != np.uint8 or picture.ndim != 3:
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a picture must be "
                f"uint8 (H, W) or (H, W, C) in 0..255. Received: shape {picture.shape}, dtype "
                f"{picture.dtype}. Scale it to 0..255 and pass `.astype('uint8')`."
            )
        if picture.shape[-1] != modality.channels:
            if picture.shape[-1] != 1:
                raise ValueError(
                    f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a picture must "
                    f"have the declared channels={modality.channels}. Received: "
                    f"{picture.shape[-1]}. Declare Image(channels=...), or convert it."
                )
            picture = np.repeat(picture, modality.channels, axis=-1)
        values[row] = picture if picture.shape == modality.shape else fit(picture).numpy()
    return values, mask


def _tensor(items: np.ndarray) -> Any:
    """Returns a tensor of a column's items; of a mapped file without reading it."""
    if isinstance(items, np.memmap):
        return tf.experimental.dlpack.from_dlpack(items.__dlpack__())
    return tf.constant(items if items.dtype.kind != "O" else list(items))


class Reader:
    """Turns row numbers into decoded batches, in the graph."""

    def __init__(self, modality: Modality, column: Column) -> None:
        """Moves the items into tensors."""
        self.form = column.form
        self.index = tf.constant(column.index)
        self.items = _tensor(column.items)
        self.mask = None if column.mask is None else _tensor(column.mask)
        ready = column.form == "decoded" and modality.kind != "image"  # pictures may be cropped
        self.decoder = None if ready else decoder(modality)

    def __call__(self, rows: Any, seed: Any = None) -> tuple[Any, Any]:
        """Returns the value and mask of a batch of rows; see `decode`."""
        return self.decode(tf.gather(self.index, rows), seed)

    def decode(self, items: Any, seed: Any = None) -> tuple[Any, Any]:
        """Returns the value and mask of a batch of items.

        With a seed (2,), pictures are cropped at random if their spec says so.
        """
        crop = None if seed is None else getattr(self.decoder, "crop", None)
        held = tf.gather(self.items, items)
        if self.form == "decoded":
            mask = tf.gather(self.mask, items)
            return (held if crop is None else crop.recrop(held, seed)), mask
        raw = read_files(held) if self.form == "path" else held
        return self.decoder(raw) if crop is None else self.decoder(raw, seed)


def read_files(paths: Any) -> Any:
    """Bytes of the files of a batch of paths; an empty path stays empty."""
    return tf.map_fn(
        lambda p: tf.cond(tf.strings.length(p) > 0, lambda: tf.io.read_file(p), lambda: p), paths
    )


def encode(modality: Modality, column: Column, rows: np.ndarray) -> np.ndarray:
    """Returns rows as the serving signature takes them: bytes, UTF-8 or numbers.

    Pictures given as arrays are encoded as PNG and waves as 16-bit WAV (exact for pictures, and
    for waves that are multiples of 1 / 32768; a WAV ends at the last real sample, and cannot say
    that a sample before it is not real).
    """
    if column.origin is not None:
        return encode(modality, column.origin, rows)
    items = column.index[rows]
    if column.form == "raw":
        return column.items[items]
    if column.form == "path":
        return read_files(tf.constant(list(column.items[items]))).numpy()
    mask = column.mask[items].reshape(len(items), -1)
    pack = _png if modality.kind == "image" else _wav
    return np.array(
        [
            pack(modality, column.items[item], m) if m.any() else b""
            for item, m in zip(items, mask, strict=True)
        ],
        object,
    )


def _png(modality: Modality, picture: np.ndarray, mask: np.ndarray) -> bytes:
    return tf.io.encode_png(picture).numpy()


def _wav(modality: Modality, samples: np.ndarray, mask: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(modality.rate_hz)
        end = np.flatnonzero(mask)[-1] + 1
        pcm = np.clip(np.round(samples[:end] * 32768), -32768, 32767)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()
