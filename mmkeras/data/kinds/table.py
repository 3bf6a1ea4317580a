"""Rows of named cells: text in, standardised numbers and category ids out."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Table
from mmkeras.core.identifiers import nearest
from mmkeras.data.columns import Column
from mmkeras.data.kinds.steps import standardised, unless_constant, usable
from mmkeras.data.sources import Rows, missing

_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_TRUTH = {b"True": b"1", b"False": b"0"}
_LARGEST = float(np.finfo(np.float32).max)


def column(
    name: str, modality: Table, rows: Rows, source: str | Mapping[str, str], archive: Any = None
) -> Column:
    """Returns the cells as text: raw items, bytes (N, C), b"" where one is missing.

    Args:
        name: of the modality.
        modality: a `Table`.
        rows: the source; its columns are those that the Table names.
        source: column of the Table -> column of the source, where they differ.
        archive: unused; cells hold no files.
    """
    given = _mapping(name, modality, source)
    items = np.full((len(rows), len(modality.columns)), b"", object)
    for place, declared in enumerate(modality.columns):
        for row, cell in enumerate(rows.column(given.get(declared, declared))):
            items[row, place] = _text(cell).encode("utf-8")
    faults: dict[int, str] = {}
    for place, declared in enumerate(modality.numeric):
        for row in range(len(items)):
            if items[row, place] and not np.isfinite(_number(items[row, place])):
                faults.setdefault(
                    row,
                    f"the numeric column {declared!r} must hold finite decimal numbers, or nothing "
                    f"where one is missing. Received: {items[row, place].decode('utf-8')!r}",
                )
    return Column("raw", items, np.arange(len(rows)), faults=faults)


def _mapping(name: str, modality: Table, source: Any) -> Mapping[str, str]:
    if source == name:  # nothing was given
        return {}
    if not isinstance(source, Mapping):
        raise TypeError(
            f"`columns[{name!r}]` of a Table must be a dict from its columns to those of the "
            f"source. Received: {source!r}. Leave it out where the names are the same."
        )
    for declared in source:
        if declared not in modality.columns:
            raise ValueError(
                f"The Table {name!r} has no column {declared!r}. "
                f"{nearest(declared, modality.columns)}"
            )
    return source


def _text(cell: Any) -> str:
    """A cell as text, "" where it is missing, without white space of ASCII around it.

    3.0 is "3", so that whole numbers are one category however they come; `mmkeras.serving.items`
    does the same.
    """
    if missing(cell):
        return ""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8")
    if isinstance(cell, float | np.floating) and float(cell).is_integer() and abs(cell) < 2**53:
        cell = int(cell)
    return str(cell).strip(" \t\n\v\f\r")


def _number(cell: bytes) -> float:
    """The number of a cell; NaN when it is none, or too large for float32."""
    text = _TRUTH.get(cell, cell).decode("utf-8")
    value = float(text) if re.fullmatch(_NUMBER, text) else np.nan
    return value if abs(value) <= _LARGEST else np.nan


def adapt(modality: Table, column: Column) -> Table:
    """Returns the modality with means, scales and vocabularies of the rows' cells."""
    items = column.items[column.index.ravel()]
    held = [[cell for cell in items[:, i] if cell] for i in range(items.shape[1])]
    for name, cells in zip(modality.columns, held, strict=True):
        if not cells:
            raise ValueError(
                f"The column {name!r} of a Table must hold something in the training rows. "
                "Received: empty cells alone. Leave the column out."
            )
    split = len(modality.numeric)
    numbers = [np.array([_number(cell) for cell in cells])[:, None] for cells in held[:split]]
    size = modality.vocabulary_size
    return modality.replace(
        mean=modality.mean or tuple(float(v.mean()) for v in numbers),
        scale=modality.scale or tuple(float(unless_constant(v.std(0), v)[0]) for v in numbers),
        vocabularies=modality.vocabularies or tuple(_vocabulary(c, size) for c in held[split:]),
    )


def _vocabulary(cells: list[bytes], size: int) -> tuple[str, ...]:
    """The commonest categories, in the order of the alphabet, one place left for the unknown."""
    counts = Counter(cell.decode("utf-8") for cell in cells)
    commonest = sorted(counts, key=lambda word: (-counts[word], word))[: size - 1]
    return tuple(sorted(commonest))


class Decoder(tf.Module):
    """Text cells (B, C) -> float32 (B, C), bool (B, C); an empty cell is missing."""

    def __init__(self, modality: Table) -> None:
        """Makes the lookup: one table for all columns, its keys begin with the column's number."""
        super().__init__()
        self.modality = modality
        self.table = None
        keys, ids = [], []
        for place, words in enumerate(modality.vocabularies or ()):
            keys += [f"{place}:{word}" for word in words]
            ids += range(1, 1 + len(words))
        if keys:
            lookup = tf.lookup.KeyValueTensorInitializer(
                tf.constant(keys), tf.constant(ids, tf.int64)
            )
            self.table = tf.lookup.StaticHashTable(lookup, default_value=0)

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Parses, standardises and looks up a batch."""
        cells = tf.ensure_shape(tf.strings.strip(raw), (None, *self.modality.shape))
        split = len(self.modality.numeric)
        parts = []
        if split:
            parts.append(self._numbers(cells[:, :split]))
        if self.modality.categorical:
            parts.append(self._categories(cells[:, split:]))
        value = tf.concat(parts, axis=1)
        category = np.arange(value.shape[1]) >= split
        mask = (tf.strings.length(cells) > 0) & (category | usable(value))
        return tf.where(mask, value, 0.0), mask

    def broken(self, raw: Any) -> Any:
        """(B,) whether a numeric cell holds no usable decimal number."""
        cells = _as_number(tf.strings.strip(raw)[:, : len(self.modality.numeric)])
        number = tf.strings.regex_full_match(cells, _NUMBER)
        value = tf.strings.to_number(tf.where(number, cells, "0"), tf.float64)
        seen = standardised(value, self.modality.mean or (), self.modality.scale or ())
        good = number & (tf.abs(value) <= _LARGEST) & usable(seen)
        good |= tf.equal(tf.strings.length(cells), 0)
        return ~tf.reduce_all(good, axis=1)

    def _numbers(self, cells: Any) -> Any:
        cells = _as_number(cells)
        bad = ~(tf.strings.regex_full_match(cells, _NUMBER) | (tf.strings.length(cells) == 0))
        rule = f"the columns {', '.join(self.modality.numeric)} must hold decimal numbers."
        check = tf.debugging.Assert(
            ~tf.reduce_any(bad), [rule, "Received:", tf.boolean_mask(cells, bad)]
        )
        with tf.control_dependencies([check]):
            text = tf.where((tf.strings.length(cells) == 0) | bad, "0", cells)
        value = tf.strings.to_number(text, tf.float64)  # large offsets cancel before float32
        return tf.cast(standardised(value, self.modality.mean, self.modality.scale), tf.float32)

    def _categories(self, cells: Any) -> Any:
        if self.table is None:  # every vocabulary is empty: all are unknown
            return tf.zeros(tf.shape(cells))
        count = len(self.modality.categorical)
        keys = [tf.strings.join([f"{place}:", cells[:, place]]) for place in range(count)]
        return tf.cast(self.table.lookup(tf.stack(keys, axis=1)), tf.float32)


def _as_number(cells: Any) -> Any:
    for word, number in _TRUTH.items():
        cells = tf.where(cells == word, number, cells)
    return cells
