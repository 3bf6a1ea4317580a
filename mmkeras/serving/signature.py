"""What a served signature takes and gives, as TensorFlow Serving's metadata tell it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# DataType of TensorFlow -> NumPy and the field of a TensorProto that holds its values.
_TYPES = {
    "DT_STRING": (object, "string_val"),
    "DT_FLOAT": (np.float32, "float_val"),
    "DT_DOUBLE": (np.float64, "double_val"),
    "DT_INT32": (np.int32, "int_val"),
    "DT_INT64": (np.int64, "int64_val"),
    "DT_UINT8": (np.uint8, "int_val"),
    "DT_BOOL": (np.bool_, "bool_val"),
}


@dataclass(frozen=True)
class Input:
    """One input.

    Attributes:
        dtype: of NumPy; object for strings of bytes.
        shape: of one row, without the batch axis; None where any size will do.
        default: what stands for a row that is not given, of `shape` with 1 where that is None;
            None where the signature has no default, so that the input must be given.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...]
    default: np.ndarray | None


@dataclass(frozen=True)
class Signature:
    """Inputs by name, and output names with their NumPy dtypes."""

    inputs: Mapping[str, Input]
    outputs: Mapping[str, np.dtype]


def signature(metadata: Mapping[str, Any], name: str) -> Signature:
    """Returns a signature out of the metadata of a model.

    Args:
        metadata: the JSON of `GET /v1/models/NAME/metadata` (a GetModelMetadataResponse).
        name: e.g. "serving_default".

    Raises:
        ValueError: there is no such signature, or it has a type that is not supported.
    """
    held = metadata["metadata"]["signature_def"]["signature_def"]
    if name not in held:
        known = sorted(n for n in held if not n.startswith("__"))
        raise ValueError(f"The model has no signature {name!r}. It has: {', '.join(known)}.")
    defaults = held[name].get("defaults", {})
    return Signature(
        {n: _input(n, info, defaults.get(n)) for n, info in sorted(held[name]["inputs"].items())},
        {n: _dtype(n, info)[0] for n, info in sorted(held[name]["outputs"].items())},
    )


def _input(name: str, info: Mapping, default: Mapping | None) -> Input:
    shape = tuple(int(dim.get("size", 0)) for dim in info["tensor_shape"].get("dim", ()))
    shape = tuple(None if size < 0 else size for size in shape)
    dtype, _ = _dtype(name, info)
    row = None if default is None else np.asarray(_tensor(name, default)[0], dtype)
    return Input(dtype, shape[1:], row)


def _dtype(name: str, info: Mapping) -> tuple[np.dtype, str]:
    if info["dtype"] not in _TYPES:
        raise ValueError(
            f"{name!r} must be one of {', '.join(_TYPES)}. Received: {info['dtype']}. Ask another "
            "signature."
        )
    dtype, field = _TYPES[info["dtype"]]
    return np.dtype(dtype), field


def _tensor(name: str, proto: Mapping) -> np.ndarray:
    """Returns a TensorProto as an array; values that are left out repeat the last one."""
    dtype, field = _dtype(name, proto)
    shape = tuple(int(dim.get("size", 0)) for dim in proto["tensor_shape"].get("dim", ()))
    if proto.get("tensor_content"):
        return np.frombuffer(base64.b64decode(proto["tensor_content"]), dtype).reshape(shape)
    values = proto.get(field) or [b"" if dtype.kind == "O" else 0]
    if dtype.kind == "O":
        values = [base64.b64decode(value) for value in values]
    count = int(np.prod(shape))
    out = np.empty(count, dtype)
    out[: len(values)] = [float(v) for v in values] if dtype.kind == "f" else values
    out[len(values) :] = out[len(values) - 1] if count else 0
    return out.reshape(shape)
