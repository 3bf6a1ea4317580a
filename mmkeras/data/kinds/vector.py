"""Numbers, alone or in a sequence: raw in, standardised out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Vector
from mmkeras.data.columns import Column
from mmkeras.data.kinds import steps
from mmkeras.data.sources import Rows, missing


def column(
    name: str, modality: Vector, rows: Rows, source: str | Sequence[str], archive: Any = None
) -> Column:
    """Returns the numbers of one column that holds them all, or of a column each."""
    if modality.steps is not None:
        return steps.column(name, modality, modality.steps, rows, source, archive)
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
    broken = ~np.isfinite(values).all(axis=1) & ~np.isnan(values).all(axis=1)
    faults = {int(i): f"has NaN or infinity: {values[i]}" for i in np.flatnonzero(broken)}
    return Column("raw", values, np.arange(len(rows)), faults=faults)


def adapt(modality: Vector, column: Column) -> Vector:
    """Returns the modality with mean and scale of the complete rows (or steps)."""
    if modality.steps is not None:
        return steps.learn(modality, column)
    values = column.items[column.index.ravel()].astype("float64")
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ValueError(
            "A Vector needs at least one complete training row to learn its mean and scale. "
            "Received: none. Give `mean=` and `scale=`, or `normalize=False`."
        )
    scale = values.std(axis=0)
    return modality.replace(
        mean=modality.mean or tuple(values.mean(axis=0)),
        scale=modality.scale or tuple(steps.unless_constant(scale, values)),
    )


class Decoder(tf.Module):
    """Numbers (B, F) -> standardised float32 (B, F), bool (B,); NaN or not usable: absent.

    With `steps`: (B, S, F) -> (B, T, F), bool (B, T).
    """

    def __init__(self, modality: Vector) -> None:
        """Keeps the spec and its statistics."""
        super().__init__()
        self.modality = modality

    def broken(self, raw: Any) -> Any:
        """(B,) whether some of the numbers are NaN, or any is not usable; of steps, the latter."""
        if self.modality.steps is not None:
            return steps.broken(self.modality, raw, self.modality.steps)
        good = tf.reduce_all(steps.usable(steps.seen(self.modality, raw)), axis=1)
        return ~good & ~tf.reduce_all(tf.math.is_nan(raw), axis=1)

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Standardises a batch."""
        if self.modality.steps is not None:
            return steps.decode(self.modality, raw, self.modality.steps)
        value = steps.seen(self.modality, tf.cast(raw, tf.float32))
        mask = tf.reduce_all(steps.usable(value), axis=1)
        return tf.where(mask[:, None], value, 0.0), mask
