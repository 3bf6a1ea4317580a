"""Records of shards, as `write_shards` writes them, to batches."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Modality, Target
from mmkeras.core.targets import Label, Number
from mmkeras.data.augment import augmenter
from mmkeras.data.buckets import codes, ends
from mmkeras.data.draws import Draws
from mmkeras.data.kinds import decoder, is_random


def loader(
    modalities: Mapping[str, Modality], targets: Mapping[str, Target], augment: bool
) -> Callable:
    """Returns records (B,), draws -> (x, y)."""
    spec = {m: _field(modality) for m, modality in modalities.items()}
    spec |= {f"target/{name}": _truth(target) for name, target in targets.items()}
    optional = [name for name, target in targets.items() if target.optional]
    spec |= {f"target/{name}_mask": tf.io.FixedLenFeature((), tf.int64) for name in optional}
    decoders = {m: decoder(modality) for m, modality in modalities.items()}
    augmenters = {m: augmenter(x) for m, x in modalities.items() if augment}

    def load(records: Any, draws: Draws | None) -> Any:
        parsed = tf.io.parse_example(records, spec)
        x = {}
        for number, (name, decode) in enumerate(decoders.items()):
            own = draws.fold(0, 7919 * number) if augment else None
            raw = _dense(parsed[name], modalities[name])
            chosen = augment and is_random(decode)
            value, mask = decode(raw, own) if chosen else decode(raw)
            if augmenters.get(name):
                value = augmenters[name](value, mask, own)
            x[name], x[f"{name}_mask"] = value, mask
        y = {
            name: tf.cast(parsed[f"target/{name}"], tf.int32)
            if isinstance(target, Label)
            else parsed[f"target/{name}"]
            for name, target in targets.items()
        }
        y |= {f"{name}_mask": parsed[f"target/{name}_mask"] > 0 for name in optional}
        return (x, y) if y else (x,)

    return load


def coder(modalities: Mapping[str, Modality], lengths: Mapping[str, tuple[int, ...]]) -> Callable:
    """Returns records (N,) -> their code; see `buckets.codes`."""
    spec = {m: _field(modalities[m]) for m in lengths}
    decoders = {m: decoder(modalities[m]) for m in lengths}

    def code(records: Any) -> Any:
        parsed = tf.io.parse_example(records, spec)
        raw = {m: _dense(parsed[m], modalities[m]) for m in lengths}
        needed = {m: ends(decoders[m](raw[m])[1]) for m in lengths}
        return codes(lengths, needed)

    return code


def _field(modality: Modality) -> Any:
    """How a raw item is read from a record."""
    dtype = tf.as_dtype(modality.raw_dtype)
    if None in modality.raw_shape:
        return tf.io.RaggedFeature(dtype)
    return tf.io.FixedLenFeature(modality.raw_shape, dtype)


def _dense(items: Any, modality: Modality) -> Any:
    """Items of different lengths as one tensor, NaN (or "") behind the shorter ones."""
    if not isinstance(items, tf.RaggedTensor):
        return items
    filler = "" if items.dtype == tf.string else float("nan")
    flat = items.to_tensor(default_value=tf.constant(filler, items.dtype))
    return tf.reshape(flat, (tf.shape(flat)[0], -1, *modality.raw_shape[1:]))


def _truth(target: Target) -> Any:
    if isinstance(target, Label):
        return tf.io.FixedLenFeature((), tf.int64)
    return tf.io.FixedLenFeature(
        () if isinstance(target, Number) else (len(target.classes),), tf.float32
    )
