"""Target columns to arrays: class indices, multi-hot rows, numbers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mmkeras.core import Label, Labels, Number, Target
from mmkeras.core.identifiers import nearest
from mmkeras.data.sources import Rows, missing

_CLASSES = "declare the classes with mk.Label(classes=[...])."


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


def encode(name: str, spec: Target, rows: Rows, cells: Any) -> np.ndarray:
    """Returns int32 (N,), float32 (N, classes) or float32 (N,).

    Raises:
        ValueError: a missing cell, a class that is unknown, a number that is none; with its row.
    """
    if isinstance(spec, Number):
        return np.array([_number(name, rows, i, c) for i, c in enumerate(cells)], np.float32)
    position = {c: i for i, c in enumerate(spec.classes)}
    several = isinstance(spec, Labels)
    out = np.zeros((len(cells), len(position)) if several else len(cells), np.float32)
    for row, cell in enumerate(cells):
        if missing(cell) and isinstance(spec, Label):
            raise _error(name, rows, row, "must not be missing.", cell, _CLASSES)
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
