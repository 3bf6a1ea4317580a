"""Plain data of a callback: copied, compared, and as JSON beside arrays."""

from typing import Any

import numpy as np
import tensorflow as tf

_PLAIN = (bool, int, float, str, np.ndarray, np.generic, type(None))
_OMITTED = ("params", "validation_data", "_is_tracing", "_profiler_started", "_should_trace")


def plain(value: Any) -> Any:
    """A copy of what is plain data in a dict; what is not, is left out."""
    if isinstance(value, dict):
        return {
            k: plain(v)
            for k, v in value.items()
            if isinstance(k, str) and k not in _OMITTED and _is_plain(v)
        }
    if isinstance(value, list | tuple):
        return type(value)(plain(v) for v in value)
    if tf.is_tensor(value):
        return np.asarray(value)
    return value.copy() if isinstance(value, np.ndarray) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or tf.is_tensor(value) and not isinstance(value, tf.Variable)


def same(one: Any, other: Any) -> bool:
    """Whether plain data are equal to the bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return one == other


def packed(value: Any, arrays: dict) -> Any:
    """JSON of plain data, with arrays put aside."""
    if isinstance(value, np.ndarray | np.generic):
        arrays[f"value/{len(arrays)}"] = np.asarray(value)
        return {"array": f"value/{len(arrays) - 1}", "scalar": isinstance(value, np.generic)}
    if isinstance(value, dict):
        return {"dict": {k: packed(v, arrays) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return [packed(v, arrays) for v in value]
    return value


def unpacked(value: Any, arrays: dict) -> Any:
    """Undoes `packed`; tuples come back as lists."""
    if isinstance(value, list):
        return [unpacked(v, arrays) for v in value]
    if isinstance(value, dict) and "dict" in value:
        return {k: unpacked(v, arrays) for k, v in value["dict"].items()}
    if isinstance(value, dict):
        held = arrays[value["array"]]
        return held[()] if value["scalar"] else held
    return value


def tuples(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value
