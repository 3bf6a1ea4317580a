"""What rows hold, as hashes: to find duplicates, and to say what a model was trained on."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import to_json
from mmkeras.data.columns import Column, read_files
from mmkeras.data.mix import Mix


def fingerprint(data: Any, split: str = "train") -> str:
    """Returns a SHA-256, in hexadecimal, of the rows of a split: specs, items and truth, in order.

    Files count by what is in them, so every distinct one is read. Of `mk.data.shards` the hashes
    of its files are used, which were made when they were written; of `mk.data.mix` the fingerprints
    of the parts that have the split, and their rates.

    Args:
        data: of `mk.data.table`, `mk.data.shards` or `mk.data.mix`.
        split: its name.
    """
    digest = hashlib.sha256(to_json(data.modalities).encode())
    if isinstance(data, Mix):
        for name, part in data.parts.items():
            if split in part.split_names:
                about = (name, float(data.rates[name]), fingerprint(part, split))
                digest.update(repr(about).encode())
        return digest.hexdigest()
    if hasattr(data, "files"):
        for about in data.files[split]:
            digest.update(bytes.fromhex(about["sha256"]))
        return digest.hexdigest()
    held = data.splits[split]
    for name, column in held.columns.items():
        digest.update(name.encode())
        for row in of_rows(column if column.origin is None else column.origin):
            digest.update(len(row).to_bytes(4) + row)
    for name, values in held.truth.items():
        digest.update(name.encode() + repr((values.dtype.str, values.shape)).encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def of_rows(column: Column) -> list[bytes]:
    """One hash per row of what its item holds; b"" for an absent one."""
    items = column.items
    if column.form == "path":
        items = [read_files(tf.constant([path])).numpy()[0] for path in items]
    hashes = [
        hashlib.sha256(item if isinstance(item, bytes) else _bytes(item)).digest() for item in items
    ]
    absent = column.absent()
    rows = column.index.reshape(len(column.index), -1)
    return [
        b"" if absent[row] else b"".join(hashes[item] for item in items)
        for row, items in enumerate(rows)
    ]


def _bytes(item: np.ndarray) -> bytes:
    """What an array holds: of texts their own bytes, of a sequence no NaN behind its end."""
    if item.dtype.kind == "O":
        return repr(item.tolist()).encode()
    if item.ndim == 2 and item.dtype.kind == "f":
        item = item[: 1 + np.flatnonzero(~np.isnan(item).all(axis=1)).max(initial=-1)]
    return item.tobytes()
