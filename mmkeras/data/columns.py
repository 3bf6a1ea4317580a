"""One modality of one split: raw or decoded items, each stored once, and a row -> item index."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.sources import Rows, missing, read_members


@dataclass(frozen=True)
class Column:
    """Items of a modality.

    Attributes:
        form: "path" (files to read), "raw" (bytes, strings or numbers), "decoded" (tensors).
        items: (U, ...) one entry per distinct item; an absent one is "" or NaN.
        index: (N,) row -> item; of `Several` (N, K). The items are then those of its item's spec.
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
            absent = ~self.mask.reshape(len(self.mask), -1).any(axis=1)
        else:
            absent = is_absent(self.items)
        return absent[self.index].reshape(len(self.index), -1).all(axis=1)

    def without(self, items: np.ndarray) -> "Column":
        """Returns the column with these items made absent."""
        held = self.items.copy()
        held[items] = np.nan if held.dtype.kind == "f" else b""
        return Column(self.form, held, self.index, self.mask)


def is_absent(items: np.ndarray) -> np.ndarray:
    """(U,) True for "" and for numbers that are all NaN; of an item with several, for all."""
    rows = items.reshape(len(items), -1)
    if items.dtype.kind == "f":
        return np.isnan(rows).all(axis=1)
    return np.array([all(part == b"" for part in row) for row in rows], bool)


def is_array(cells: Any) -> bool:
    """Whether the first cell that is there is an array (and not a path or bytes)."""
    return getattr(next((c for c in cells if not missing(c)), None), "ndim", 0) > 0


def unique(form: str, items: list[bytes]) -> Column:
    """Returns a column that holds equal items once."""
    positions: dict[bytes, int] = {}
    index = np.array([positions.setdefault(item, len(positions)) for item in items], np.int64)
    return Column(form, np.array(list(positions), object), index)


def encoded_items(rows: Rows, cells: Any, archive: Any = None) -> Column:
    """Returns a column of encoded bytes or of files.

    Args:
        rows: the source, whose root relative paths start from.
        cells: bytes, paths, or names of members of the archive.
        archive: zip or tar file.
    """
    if archive is not None:
        return _members(cells, archive)
    if any(isinstance(c, bytes) for c in cells):
        return unique("raw", [b"" if missing(c) else bytes(c) for c in cells])
    return unique("path", [b"" if missing(c) else _path(rows, c) for c in cells])


def _path(rows: Rows, cell: Any) -> bytes:
    path = str(cell)
    return (str(rows.root / path) if rows.root is not None else path).encode("utf-8")


def _members(cells: Any, archive: Any) -> Column:
    held, broken = read_members(archive, (str(c) for c in cells if not missing(c)))
    # A member that is not there keeps its name as its item, so that its rows can be told.
    items = [b"" if missing(c) else held.get(str(c), str(c).encode("utf-8")) for c in cells]
    column = unique("raw", items)
    faults = {
        int(item): broken.get(str(c), f"the archive {str(archive)!r} has no member {c!r}")
        for item, c in zip(column.index, cells, strict=True)
        if not missing(c) and str(c) not in held
    }
    return replace(column, faults=faults)


def decoded(
    name: str, modality: Modality, rows: Rows, values: np.ndarray, mask: np.ndarray
) -> Column:
    """Returns a column of tensors, masked also by the source's own `<name>_mask`."""
    if f"{name}_mask" in rows.columns:
        given = np.asarray(rows.columns[f"{name}_mask"])
        if given.shape != (len(values), *modality.mask_shape) or given.dtype != bool:
            raise ValueError(
                f"The mask {name}_mask must be a bool array of shape "
                f"{(len(values), *modality.mask_shape)}. Received: shape {given.shape}, dtype "
                f"{given.dtype}. Give True where the data are real."
            )
        mask = mask & given
        values[~mask] = 0
    return Column("decoded", values, np.arange(len(values)), mask)


def read_files(paths: Any) -> Any:
    """Bytes of the files of a batch of paths; an empty path stays empty."""
    return tf.map_fn(
        lambda p: tf.cond(tf.strings.length(p) > 0, lambda: tf.io.read_file(p), lambda: p), paths
    )
