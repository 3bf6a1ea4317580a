"""Decoded items stored once: in memory, or in a folder that the next start finds again.

In a folder every column is a pair of `.npy` files under a name that is a hash of the spec and of
the items (of files: path, size and time of change), so that a stale cache is never read. They are
written to a temporary name and renamed, and are mapped, not loaded: a set may be larger than the
memory, and the operating system keeps of it what it has room for.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column
from mmkeras.data.options import tuned_map
from mmkeras.data.reader import Reader

FORMAT = 1  # raise it when a decoder's output changes


def decoded(modality: Modality, column: Column, folder: str | os.PathLike | None = None) -> Column:
    """Returns the column with every distinct item decoded once; `origin` keeps the raw items.

    Args:
        modality: its adapted spec.
        column: raw items, files, or tensors (which are returned as they are, as are texts whose
            characters are changed before they are cut into tokens).
        folder: where to keep them; in memory when None.
    """
    modality = modality.item
    if column.form == "decoded" or "character_noise" in getattr(modality, "augment", {}):
        return column
    if folder is None:
        parts = zip(*_batches(modality, column), strict=True)
        values, mask = (np.concatenate(part) for part in parts)
    else:
        shapes = {
            "value": (modality.shape, modality.dtype),
            "mask": (modality.mask_shape, "bool"),
        }
        key = key_of(modality, column)
        held = stored(folder, key, len(column.items), shapes, lambda: _batches(modality, column))
        values, mask = held["value"], held["mask"]
    return Column("decoded", values, column.index, mask, column)


def _batches(modality: Modality, column: Column, size: int = 256) -> Iterable[tuple]:
    items = tf.data.Dataset.range(len(column.items)).batch(size)
    reader = Reader(modality, column)
    return tuned_map(items, reader.decode).as_numpy_iterator()


def key_of(modality: Modality, column: Column, *more: bytes) -> str:
    """Returns a hash of what decoded items are a function of, and of `more`."""
    config = {**modality.get_config(), "augment": None}
    digest = hashlib.sha256(json.dumps([FORMAT, column.form, config]).encode())
    for part in more:
        digest.update(part)
    if column.items.dtype.kind != "O":
        digest.update(f"{column.items.dtype}{column.items.shape}".encode())
        digest.update(np.ascontiguousarray(column.items))
        digest.update(b"" if column.mask is None else np.ascontiguousarray(column.mask))
        return digest.hexdigest()[:32]
    for item in column.items.ravel():
        digest.update(len(item).to_bytes(8, "little") + item)
        if column.form == "path" and item and os.path.exists(item):
            state = os.stat(item)
            digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def stored(
    folder: str | os.PathLike,
    key: str,
    count: int,
    shapes: dict[str, tuple[tuple[int, ...], str]],
    produce: Callable[[], Iterable[tuple]],
) -> dict[str, np.ndarray]:
    """Returns arrays mapped from `folder/key`, made first if they are not there.

    Args:
        folder: is created.
        key: of the content.
        count: number of rows of every array.
        shapes: name -> (shape of a row, dtype).
        produce: returns batches, tuples in the order of `shapes`, `count` rows in all.
    """
    final = Path(folder) / key
    if not final.is_dir():
        temporary = Path(folder) / f"{key}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            _write(temporary, count, shapes, produce())
            os.rename(temporary, final)
        except OSError:
            if not final.is_dir():  # else another process was first
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    # Copy-on-write: nothing is written back, and TensorFlow takes the pages without copying them.
    return {name: np.load(final / f"{name}.npy", mmap_mode="c") for name in shapes}


def _write(folder: Path, count: int, shapes: dict, batches: Iterable[tuple]) -> None:
    arrays = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.dtype(dtype), (count, *shape))
        for name, (shape, dtype) in shapes.items()
    ]
    start = 0
    for batch in batches:
        end = start + len(batch[0])
        for array, part in zip(arrays, batch, strict=True):
            array[start:end] = part
        start = end
    if start != count:
        raise RuntimeError(f"A cache of {count} rows must be written whole. Received: {start}.")
    for array in arrays:
        array.flush()
