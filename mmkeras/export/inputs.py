"""What a request holds: the inputs of the signatures, each of them optional."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.kinds.steps import LARGEST
from mmkeras.data.tolerant import tolerant

Input = tuple[tf.TensorSpec, tf.Tensor]
"""Spec (None, ...) and the absent item (1, ...) that stands for an input left out."""


def raw_inputs(modalities: Mapping[str, Modality]) -> dict[str, Input]:
    """Returns one input per modality: bytes, text or numbers; "" and NaN are absent."""
    made = {}
    for name, modality in modalities.items():
        dtype = tf.as_dtype(modality.raw_dtype)
        absent = tf.constant("" if dtype == tf.string else float("nan"), dtype)
        made[name] = (
            tf.TensorSpec((None, *modality.raw_shape), dtype, name=name),
            tf.fill([1, *(n or 1 for n in modality.raw_shape)], absent),
        )
    return made


def decoded_inputs(modalities: Mapping[str, Modality]) -> dict[str, Input]:
    """Returns value and mask of each modality, as the model takes them."""
    made = {}
    for name, m in modalities.items():
        parts = {name: (m.shape, m.dtype), f"{name}_mask": (m.mask_shape, "bool")}
        for key, (shape, dtype) in parts.items():
            spec = tf.TensorSpec((None, *shape), dtype, name=key)
            made[key] = (spec, tf.zeros((1, *shape), dtype))
    return made


def endpoint(
    function: Callable[[dict], dict], inputs: Mapping[str, Input]
) -> tuple[Callable[..., dict], list[tf.TensorSpec]]:
    """Returns what `ExportArchive.add_endpoint` takes: a function of positions, and their specs.

    The arguments' defaults become `SignatureDef.defaults`.
    """

    def serve(*values: Any) -> dict:
        return function(dict(zip(inputs, values, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    serve.__signature__ = inspect.Signature(
        [inspect.Parameter(name, kind, default=absent) for name, (_, absent) in inputs.items()]
    )
    return serve, [spec for spec, _ in inputs.values()]


def read(decoders: Mapping[str, tf.Module], raw: Mapping[str, Any]) -> tuple[dict, Any]:
    """Decodes a request.

    Returns:
        the model's inputs, and bool (B, M): items that could not be read and count as absent, the
        modalities in declared order.
    """
    times, x, bad = _times(raw), {}, []
    for name, decode in decoders.items():  # none waits for another
        parts = tolerant(decode, raw[name])
        x[name], x[f"{name}_mask"], wrong = (_repeat(part, times[name]) for part in parts)
        bad.append(wrong)
    return x, tf.stack(bad, axis=1)


def checked(modalities: Mapping[str, Modality], x: Mapping[str, Any]) -> tuple[dict, Any]:
    """Makes absent the decoded items that no decoder returns, as `read` does with raw ones.

    These have, where the mask is true, an id below 0 or beyond the vocabulary (of a Table also one
    that is no whole number), or a number that is not `usable`. Behind the mask such values become
    0: they may be anything.

    Returns:
        as `read`.
    """
    made, bad = {}, []
    for name, modality in modalities.items():
        value, mask = made[name], made[f"{name}_mask"] = x[name], x[f"{name}_mask"]
        wrong = _wrong(modality.item, value)
        if wrong is None:
            bad.append(tf.zeros(tf.shape(value)[:1], tf.bool))
            continue
        lead = 1 if modality.item is modality else 2  # of Several, an item by itself
        there = mask[(..., *[tf.newaxis] * (len(value.shape) - len(mask.shape)))]
        items = tf.reduce_any(wrong & there, axis=list(range(lead, len(value.shape))))
        made[name] = tf.where(wrong, tf.zeros((), value.dtype), value)
        made[f"{name}_mask"] = mask & ~items[(..., *[tf.newaxis] * (len(mask.shape) - lead))]
        bad.append(items if lead == 1 else tf.reduce_any(items, axis=1))
    return made, tf.stack(bad, axis=1)


def _wrong(item: Modality, value: Any) -> Any:
    """Bool like `value`: what stands for nothing; None where nothing can."""
    if item.kind == "text":
        return (value < 0) | (value >= len(item.vocabulary))
    if not value.dtype.is_floating:
        return None
    # Not `~usable(value)`: the graph's optimizer makes of it `>`, which NaN is not.
    wrong = tf.math.is_nan(value) | (tf.abs(value) > LARGEST)
    if item.kind == "table" and item.categorical:
        ids = value[..., len(item.numeric) :]
        known = (ids >= 0) & (ids < tf.constant(item.sizes, value.dtype)) & (ids == tf.floor(ids))
        wrong = tf.concat([wrong[..., : len(item.numeric)], ~known], axis=-1)
    return wrong


def repeated(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Repeats what has one row to the batch; other counts must match."""
    times = _times(parts)
    return {name: _repeat(part, times[name]) for name, part in parts.items()}


def _times(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how often each part stands in the batch, 1 or (of one row) all its rows."""
    counts = {name: tf.shape(part)[0] for name, part in parts.items()}
    batch = tf.reduce_max(tf.stack(list(counts.values())))
    times = {}
    for name, count in counts.items():
        check = tf.debugging.Assert(
            (count == batch) | (count == 1),
            [
                f"the input {name!r} must hold as many items as the others, or one. Received:",
                count,
                "of",
                batch,
            ],
        )
        with tf.control_dependencies([check]):
            times[name] = tf.where(count == batch, 1, batch)
    return times


def _repeat(part: Any, times: Any) -> Any:
    return tf.ensure_shape(tf.repeat(part, times, axis=0), (None, *part.shape[1:]))
