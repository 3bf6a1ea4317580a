"""Several items per row: the column of all items, and K of them per row."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Several
from mmkeras.data import kinds
from mmkeras.data.columns import Column
from mmkeras.data.draws import Draws
from mmkeras.data.sources import Rows, missing


def column(
    name: str, modality: Several, rows: Rows, source: str | Sequence[str], archive: Any = None
) -> Column:
    """Returns the items, each stored once, and an index (N, K).

    A cell is a list (or an array whose first axis is that of the items) of at most K cells as the
    item's kind takes them; or `source` names a column per item.
    """
    if isinstance(source, str):
        cells = rows.column(source)
    else:
        cells = list(zip(*(rows.column(s) for s in source), strict=True))
    flat = [
        item
        for number, cell in zip(rows.numbers, cells, strict=True)
        for item in _items(name, modality, f"Row {number} of {rows.where}", cell)
    ]
    columns = {"items": flat}
    if f"{name}_mask" in rows.columns:
        given = np.asarray(rows.columns[f"{name}_mask"])
        if given.shape != (len(rows), *modality.mask_shape):
            raise ValueError(
                f"The mask {name}_mask must be a bool array of shape "
                f"{(len(rows), *modality.mask_shape)}. Received: shape {given.shape}. Give True "
                "where the data are real."
            )
        columns[f"{name}_mask"] = given.reshape(-1, *given.shape[2:])
    numbers = np.repeat(rows.numbers, modality.count)
    flat_rows = Rows(columns, rows.where, rows.root, numbers)
    made = kinds.make(name, modality.modality, flat_rows, "items", archive)
    return replace(made, index=made.index.reshape(-1, modality.count))


def _items(name: str, modality: Several, where: str, cell: Any) -> list:
    """Returns K cells of items; None where there is none."""
    if missing(cell):
        cell = []
    if not isinstance(cell, list | tuple) and getattr(cell, "ndim", 0) == 0:
        raise ValueError(
            f"{where}, modality {name!r}: must hold a list of items. Received: {cell!r:.80}. Give "
            "a list (JSONL, DataFrame or dict of columns), or name a column per item with "
            f"`columns={{{name!r}: ['first', 'second']}}`."
        )
    if len(cell) > modality.count:
        raise ValueError(
            f"{where}, modality {name!r}: must hold at most {modality.count} items, as "
            f"Several(count=...) declares. Received: {len(cell)}. Raise `count`, or leave some out."
        )
    return [*cell, *[None] * (modality.count - len(cell))]


def adapt(modality: Several, column: Column) -> Several:
    """Returns the modality with what its item's spec learns from all items."""
    flat = replace(column, index=column.index.reshape(-1))
    return modality.replace(modality=kinds.adapt(modality.modality, flat))


class Decoder(tf.Module):
    """Raw items (B, K, ...) -> values (B, K, ...), masks (B, K, ...)."""

    def __init__(self, modality: Several, **kwargs: Any) -> None:
        """Makes the decoder of the items."""
        super().__init__()
        self.modality = modality
        self.items = kinds.decoder(modality.modality, **kwargs)
        self.crop = getattr(self.items, "crop", None)
        self.noise = getattr(self.items, "noise", None)

    def __call__(self, raw: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Decodes a batch; draws are for the items."""
        flat = self.flat(raw)
        parts = self.items(flat) if draws is None else self.items(flat, draws)
        return tuple(self.rows(part) for part in parts)

    def flat(self, raw: Any) -> Any:
        """Raw items (B, K, ...) -> (B K, ...)."""
        flat = tf.reshape(raw, tf.concat([[-1], tf.shape(raw)[2:]], axis=0))
        return tf.ensure_shape(flat, (None, *self.modality.modality.raw_shape))

    def rows(self, part: Any) -> Any:
        """What was made of all items (B K, ...) -> (B, K, ...)."""
        return tf.reshape(part, [-1, self.modality.count, *part.shape[1:]])
