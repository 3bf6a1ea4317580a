"""Uniform argument checks: every message states the rule, the received value and the way out."""

import math
import numbers
from collections.abc import Collection, Mapping
from typing import Any


def whole(name: str, value: Any, minimum: int = 1) -> int:
    """Returns `value` as an int, or raises: it must be a whole number >= `minimum`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < minimum:
        raise ValueError(
            f"`{name}` must be a whole number of at least {minimum}. Received: {name}={value!r}."
        )
    return int(value)


def real(name: str, value: Any, minimum: float = 0.0, maximum: float = float("inf")) -> float:
    """Returns `value` as a float, or raises: finite, and in [`minimum`, `maximum`]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"`{name}` must be a number. Received: {name}={value!r}.")
    if not minimum <= value <= maximum or math.isinf(value):
        raise ValueError(
            f"`{name}` must lie between {minimum} and {maximum}. Received: {name}={value!r}."
        )
    return float(value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    """Returns `value`, or raises: it must be one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {sorted(allowed)}. Received: {name}={value!r}.")
    return value


def identifier(name: str, value: Any) -> str:
    """Returns `value`, or raises: a name becomes part of layer names and signatures."""
    if not isinstance(value, str) or not value.isidentifier() or value.endswith("_mask"):
        raise ValueError(
            f"{name} must be a Python identifier that does not end in '_mask' (it names inputs, "
            f"layers and the serving signature). Received: {value!r}. Rename it, and map the "
            "column with `columns={'new_name': 'column'}`."
        )
    return value


def modality_names(modalities: Any) -> tuple[str, ...]:
    """Returns the declared names in order, or raises: at least one, each an identifier."""
    if isinstance(modalities, str) or not isinstance(modalities, Mapping | list | tuple):
        raise ValueError(
            "`modalities` must be a dict of name -> spec or a list of names, in the order in "
            f"which they are to be read. Received: {modalities!r}."
        )
    names = tuple(identifier("A modality's name", name) for name in modalities)
    if not names or len(set(names)) != len(names):
        raise ValueError(
            f"`modalities` must name at least one modality, and each once. Received: {names}."
        )
    return names
