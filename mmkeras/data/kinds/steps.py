"""Sequences of numbers, a row per step: what `Series` and `Vector(steps=)` do with raw data.

A cell is an array (S, C), its nested list, or the path (or archive member) of a `.npy` file or of
a `.csv` file with a line per step, with or without a header. For C = 1 an array may be (S,). A
step with a NaN (in a CSV file: an empty cell) is not there.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column
from mmkeras.data.sources import Rows, missing, read_members

LARGEST = 1e9
"""Of numbers as a model sees them: deviations from the mean, or what `normalize=False` leaves."""


def column(
    name: str, modality: Modality, limit: int, rows: Rows, source: str, archive: Any = None
) -> Column:
    """Returns raw float32 items (U, S, C), NaN behind the end of shorter ones.

    Files are read here, not in the graph. What cannot be read is among the faults.

    Args:
        name: of the modality, for the key of an explicit mask and for messages.
        modality: a `Series` or a `Vector` with steps.
        limit: number of steps that are kept.
        rows, source, archive: see `mmkeras.data.kinds.make`.
    """
    if not isinstance(source, str):
        raise TypeError(
            f"The modality {name!r} must be one column, whose cells hold sequences. Received: "
            f"{source!r}. Stack the columns, or declare a Vector without `steps`."
        )
    cells, width = rows.column(source), modality.shape[-1]
    masks = rows.columns.get(f"{name}_mask")
    read_file = _reader(rows, cells, archive)
    items, faults, positions = [], {}, {}
    index = np.zeros(len(cells), np.int64)
    for row, cell in enumerate(cells):
        file = isinstance(cell, str | Path)
        key = str(cell) if file and masks is None else row
        index[row] = positions.setdefault(key, len(items))
        if index[row] < len(items):
            continue
        items.append(np.full((0, width), np.nan, np.float32))
        if missing(cell):
            continue
        try:
            mask = None if masks is None else masks[row]
            items[-1] = _checked(read_file(str(cell)) if file else cell, width, limit, mask)
        except (ValueError, TypeError, OSError, EOFError) as error:
            faults[int(index[row])] = f"{cell}: {error}" if file else str(error)
    longest = max(1, *(len(item) for item in items))
    held = np.full((len(items), longest, width), np.nan, np.float32)
    for place, item in zip(held, items, strict=True):
        place[: len(item)] = item
    return Column("raw", held, index, faults=faults)


def _checked(item: Any, width: int, limit: int, mask: Any) -> np.ndarray:
    """Returns float32 (S, C), NaN at steps that are not there; raises with the rule."""
    item = np.asarray(item)
    shape = item.shape
    if item.dtype.kind not in "biufO":
        raise ValueError(f"must hold numbers. Received: {item.dtype.name}, shape {shape}")
    item = item[:, None] if item.ndim == 1 and width == 1 else item
    if item.ndim != 2 or item.shape[1] != width or not len(item):
        raise ValueError(
            f"must be an array (steps, {width}), a row per step with {width} numbers, as declared. "
            f"Received: shape {shape}"
        )
    item = np.array(item[:limit], np.float32)
    if np.isinf(item).any():
        step, channel = np.argwhere(np.isinf(item))[0]
        raise ValueError(f"has infinity at step {step}, channel {channel}. NaN is a missing step")
    if mask is not None:
        mask = np.asarray(mask)[:limit]
        if mask.shape != item.shape[:1] or mask.dtype != bool:
            raise ValueError(
                "the mask must be a bool array with one entry per step. Received: shape "
                f"{mask.shape}, dtype {mask.dtype}, for {len(item)} steps"
            )
        item[~mask] = np.nan
    item[np.isnan(item).any(axis=1)] = np.nan
    return item


def _reader(rows: Rows, cells: Any, archive: Any) -> Callable[[str], np.ndarray]:
    """Returns name of a file -> array."""
    kinds = {".npy": _npy, ".csv": _csv}
    held, broken = {}, {}
    if archive is not None:
        held, broken = read_members(archive, (c for c in cells if isinstance(c, str)))

    def read(name: str) -> np.ndarray:
        kind = Path(name).suffix.lower()
        if kind not in kinds:
            raise ValueError("a series must be a .npy or .csv file, or an array")
        if archive is None:
            return kinds[kind](name if rows.root is None else str(rows.root / name))
        if name not in held:
            raise ValueError(broken.get(name, f"the archive {str(archive)!r} has no such member"))
        return kinds[kind](io.BytesIO(held[name]))

    return read


def _npy(file: Any) -> np.ndarray:
    mode = "r" if isinstance(file, str) else None  # mapped: only the steps that are kept are read
    return np.load(file, mmap_mode=mode, allow_pickle=False)


def _csv(file: Any) -> np.ndarray:
    data = Path(file).read_bytes() if isinstance(file, str) else file.read()
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    steps: list[list[float]] = []
    for number, cells in enumerate(line for line in reader if line):
        try:
            steps.append([float(cell) if cell.strip() else np.nan for cell in cells])
        except ValueError as error:
            if number:
                raise ValueError(f"line {reader.line_num} must hold numbers: {error}") from error
        if steps and len(steps[-1]) != len(steps[0]):
            raise ValueError(
                f"every line must have {len(steps[0])} cells. Received: {len(cells)} in line "
                f"{reader.line_num}"
            )
    return np.array(steps, np.float32)


def learn(modality: Modality, column: Column) -> Modality:
    """Returns the modality with mean and scale of the steps that are there in the rows."""
    real = np.isfinite(column.items).all(axis=2)
    counts = np.bincount(column.index.ravel(), minlength=len(column.items))
    weights = real * counts[:, None].astype(np.float64)
    if not weights.any():
        raise ValueError(
            f"A {type(modality).__name__} needs at least one step in the training rows to learn "
            "its mean and scale. Received: none. Give `mean=` and `scale=`, or `normalize=False`."
        )
    values = np.where(real[:, :, None], column.items, 0).astype(np.float64)
    mean = np.einsum("us,usc->c", weights, values) / weights.sum()
    scale = np.sqrt(np.einsum("us,usc->c", weights, (values - mean) ** 2) / weights.sum())
    used = column.items[weights > 0]
    return modality.replace(
        mean=modality.mean or tuple(mean),
        scale=modality.scale or tuple(unless_constant(scale, used)),
    )


def unless_constant(scale: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the scale, 1 for columns of `values` (N, C) that hold one number only.

    Said by the values themselves: the deviation of equal large numbers is rarely 0 when computed.
    """
    varies = values.max(axis=0) > values.min(axis=0)
    return np.where(varies & (scale > 0), scale, 1.0)


def standardised(value: Any, mean: Any, scale: Any) -> Any:
    """(value - mean) / scale, in the dtype of `value`.

    Written as a product: the optimizer of a graph makes one of a division by constants, but not
    of the same code in tf.data, and the two would differ in the last bit.
    """
    inverse = 1.0 / np.asarray(scale, np.float64)
    return (value - tf.constant(mean, value.dtype)) * tf.constant(inverse, value.dtype)


def seen(modality: Modality, value: Any) -> Any:
    """Numbers as the model sees them: standardised, unless the spec leaves them as they are."""
    if not modality.normalize:
        return value
    return standardised(value, modality.mean, modality.scale)


def usable(value: Any) -> Any:
    """Whether numbers are finite and at most `LARGEST`, above or below 0, as the model sees them.

    Larger ones overflow in a model's products, and its answer is NaN. The one rule of `Vector`,
    `Series` and `Table`.
    """
    return tf.abs(value) <= LARGEST


def broken(modality: Modality, raw: Any, limit: int) -> Any:
    """(B,) whether the first `limit` steps of raw (B, S, C) hold what is neither usable nor NaN."""
    raw = raw[:, :limit]
    good = usable(seen(modality, raw)) | tf.math.is_nan(raw)
    return ~tf.reduce_all(good, axis=[1, 2])


def decode(modality: Modality, raw: Any, limit: int, ratio: float = 1.0) -> tuple[Any, Any]:
    """Raw (B, S, C) -> standardised float32 (B, T, C), bool (B, T), in the graph.

    Args:
        modality: a `Series` or a `Vector` with steps, adapted.
        raw: float32; a row with a NaN or what is not `usable` is a step that is not there.
        limit: number of raw steps that are looked at.
        ratio: raw steps per step; the value of step t is read at the position t * ratio, on the
            straight line between its two neighbours.
    """
    steps, channels = modality.shape
    value = tf.cast(raw, tf.float32)[:, :limit]
    short = limit - tf.shape(value)[1]
    value = tf.pad(value, [[0, 0], [0, short], [0, 0]], constant_values=float("nan"))
    # Standardised before the sum of neighbours, into which an optimizer would move the mean.
    value = seen(modality, value)
    mask = tf.reduce_all(usable(value), axis=2)
    value = tf.where(mask[:, :, None], value, 0.0)
    if ratio != 1.0:
        position = np.round(np.arange(steps) * ratio, 6)
        below, above = np.floor(position).astype(np.int32), np.ceil(position).astype(np.int32)
        share = (position - below).astype(np.float32)[:, None]
        value = tf.gather(value, below, axis=1) * (1 - share) + (
            tf.gather(value, above, axis=1) * share
        )
        mask = tf.gather(mask, below, axis=1) & tf.gather(mask, above, axis=1)
    value = tf.where(mask[:, :, None], value, 0.0)
    return tf.ensure_shape(value, (None, steps, channels)), tf.ensure_shape(mask, (None, steps))
