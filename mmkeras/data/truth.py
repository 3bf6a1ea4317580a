"""Target columns to arrays: class indices, multi-hot rows, numbers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmkeras.core import Label, Labels, Number, Target
from mmkeras.core.identifiers import nearest
from mmkeras.data.sources import Rows, missing

_CLASSES = "declare the classes with mk.Label(classes=[...])."
_OPTIONAL = "let rows lack it: mk.{}(optional=True)."


def specs(target: Any) -> dict[str, Target]:
    """Returns name -> Target for what `table(target=...)` accepts.

    A string is a Label; a list of strings several; a dict gives the spec of each.
    """
    if target is None:
        return {}
    if isinstance(target, str):
        target = [target]
    if not isinstance(target, Mapping):
        target = {name: Label() for name in target}
    for name in target:
        if f"{name}_mask" in target:
            raise ValueError(
                f"No target may be called {name}_mask beside {name!r}: it names the rows that "
                "have that. Rename it, and map it with `columns`."
            )
    for name, spec in target.items():
        if not isinstance(spec, Target):
            raise TypeError(
                f"The target {name!r} must be mk.Label(), mk.Labels() or mk.Number(). "
                f"Received: {spec!r}."
            )
    return dict(target)


def adapt(name: str, spec: Target, cells: Any) -> Target:
    """Returns the target with its classes learnt from the training cells."""
    if isinstance(spec, Number) or spec.classes is not None:
        return spec
    found = {label for cell in cells if not missing(cell) for label in _names(spec, cell)}
    if len(found) < 2:
        raise ValueError(
            f"The target {name!r} must have at least two classes in the training rows. Received: "
            f"{sorted(found)}. Add rows, or declare the classes with mk.Label(classes=[...])."
        )
    return spec.replace(classes=tuple(sorted(found, key=_numeric_first)))


def encode(name: str, spec: Target, rows: Rows, cells: Any) -> dict[str, np.ndarray]:
    """Returns name -> truth and, of an optional target, NAME_mask -> bool (N,).

    The truth is int32 (N,), float32 (N, classes) or float32 (N,), zero where the row lacks it.

    Raises:
        ValueError: a missing cell, a class that is unknown, a number that is none; with its row.
    """
    held = {name: _encoded(name, spec, rows, cells)}
    if spec.optional:
        held[f"{name}_mask"] = np.array([not missing(cell) for cell in cells], bool)
    return held


def _encoded(name: str, spec: Target, rows: Rows, cells: Any) -> np.ndarray:
    if isinstance(spec, Number):
        values = [
            0.0 if spec.optional and missing(cell) else _number(name, rows, row, cell)
            for row, cell in enumerate(cells)
        ]
        return np.array(values, np.float32)
    position = {c: i for i, c in enumerate(spec.classes)}
    several = isinstance(spec, Labels)
    out = np.zeros((len(cells), len(position)) if several else len(cells), np.float32)
    for row, cell in enumerate(cells):
        if missing(cell) and isinstance(spec, Label) and not spec.optional:
            way = _OPTIONAL.format("Label")
            raise _error(name, rows, row, "must not be missing.", cell, way)
        for label in [] if missing(cell) else _names(spec, cell):
            if label not in position:
                rule = f"must be one of the classes. {nearest(label, position)}"
                raise _error(name, rows, row, rule, cell, _CLASSES)
            out[(row, position[label]) if several else row] = 1.0 if several else position[label]
    return out if several else out.astype(np.int32)


def _names(spec: Target, cell: Any) -> list[str]:
    if isinstance(spec, Label):
        return [_text(cell)]
    if isinstance(cell, str | bytes):
        cell = _text(cell).split(spec.separator)
    parts = cell if isinstance(cell, Iterable) else [cell]
    return [_text(part).strip() for part in parts if _text(part).strip()]


def _text(cell: Any) -> str:
    if isinstance(cell, bytes):
        return cell.decode("utf-8")
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def _numeric_first(name: str) -> tuple:
    return (0, float(name), name) if re.fullmatch("-?[0-9]+", name) else (1, 0.0, name)


def _number(name: str, rows: Rows, row: int, cell: Any) -> float:
    if missing(cell):
        way = _OPTIONAL.format("Number")
        raise _error(name, rows, row, "must not be missing.", cell, way)
    try:
        value = float(cell)
    except (TypeError, ValueError) as error:
        raise _error(name, rows, row, "must be a number.", cell) from error
    if not np.isfinite(value):
        raise _error(name, rows, row, "must be a finite number.", cell)
    return value


def _error(
    name: str, rows: Rows, row: int, rule: str, cell: Any, way: str = "leave it out."
) -> ValueError:
    return ValueError(
        f"Row {rows.numbers[row]} of {rows.where}, target {name!r}: {rule} Received: {cell!r}. "
        f"Correct the row, or {way}"
    )
