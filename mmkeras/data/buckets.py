"""Length buckets: batches of rows of like length, whose sequences are cut to what they need."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data.columns import Column
from mmkeras.data.reader import Reader

KINDS = ("series", "text", "vector")
CHUNK = 4096  # items that are measured at a time


def checked(
    buckets: Mapping[str, Any] | None, modalities: Mapping[str, Modality]
) -> dict[str, tuple[int, ...]]:
    """Returns modality -> its lengths, which rise and end with the declared one.

    Raises:
        ValueError: an unknown modality, one without steps in memory, or wrong lengths.
    """
    if not isinstance(buckets or {}, Mapping):
        raise ValueError(
            "`buckets` must be a dict of modality -> lengths, e.g. {'question': (8, 16, 32)}. "
            f"Received: {buckets!r}."
        )
    found = {}
    for name, lengths in (buckets or {}).items():
        if name not in modalities:
            raise ValueError(f"Unknown modality {name!r} in `buckets`. {nearest(name, modalities)}")
        spec = modalities[name]
        if spec.kind not in KINDS or not spec.mask_shape:
            raise ValueError(
                "Buckets are for texts, series and sequences of vectors. Received: "
                f"{name!r}, of kind {spec.kind!r}{'' if spec.mask_shape else ' without steps'}. "
                f"Leave {name!r} out of `buckets`."
            )
        longest = spec.mask_shape[0]
        lengths = [checks.whole(f"buckets[{name!r}]", length) for length in _listed(lengths)]
        if lengths != sorted(set(lengths)) or not lengths or lengths[-1] > longest:
            raise ValueError(
                f"The lengths of a bucket must rise, up to the declared {longest} of {name!r}. "
                f"Received: {tuple(lengths)}. What is longer than the last goes to {longest}."
            )
        found[name] = (*lengths, longest) if lengths[-1] < longest else tuple(lengths)
    return found


def _listed(lengths: Any) -> list:
    return list(lengths) if isinstance(lengths, tuple | list) else [lengths]


def ends(mask: Any) -> Any:
    """Returns int32 (B,): how many steps of each row, masks (B, T), are needed to keep all."""
    numbers = tf.range(1, tf.shape(mask)[1] + 1)[None, :]
    return tf.reduce_max(tf.where(mask, numbers, 0), axis=1)


def codes(lengths: Mapping[str, tuple[int, ...]], needed: Mapping[str, Any]) -> Any:
    """Returns int32 (N,), one number per combination of buckets; it rises with the length.

    Args:
        lengths: see `checked`.
        needed: modality -> (N,) of `ends`.
    """
    code = 0
    for name, held in lengths.items():
        found = tf.searchsorted(tf.constant(held), tf.cast(needed[name], tf.int32))
        code = code * len(held) + found
    return code


def of_columns(
    lengths: Mapping[str, tuple[int, ...]],
    modalities: Mapping[str, Modality],
    columns: Mapping[str, Column],
) -> Any:
    """Returns the code of every row, after decoding every distinct item once."""
    needed = {}
    for name in lengths:
        read, count = Reader(modalities[name], columns[name]), len(columns[name].items)
        chunks = [range(a, min(a + CHUNK, count)) for a in range(0, count, CHUNK)]
        parts = [ends(read.decode(tf.constant(chunk))[1]).numpy() for chunk in chunks]
        needed[name] = np.concatenate(parts)[columns[name].index]
    return codes(lengths, needed)


def grouped(code: Any, batch_size: int, *, key: Any = None, head: Any = 0) -> Any:
    """Returns an order in which rows of one code share a batch, and batches come at random.

    What fills no batch stays at its place, so that which rows these are depends on no length.
    Where a code ends inside a batch, the next goes on in it.

    Args:
        code: (N,) of the rows, which are in a random order.
        batch_size: rows of a batch.
        key: int64 (2,), of the order of the batches; None for rising codes.
        head: how many rows first fill up a batch that has begun before.

    Returns:
        int32 (N,), a permutation.
    """
    count = tf.shape(code)[0]
    head = tf.minimum(tf.cast(head, tf.int32), count)
    steps = (count - head) // batch_size
    whole = head + steps * batch_size
    order = head + tf.argsort(code[head:whole], stable=True)
    if key is not None:
        other = key + tf.constant([0, 7919], tf.int64)
        rows = tf.reshape(order, [steps, batch_size])
        order = tf.reshape(tf.random.experimental.stateless_shuffle(rows, other), [-1])
    return tf.concat([tf.range(head), order, tf.range(whole, count)], 0)


def cut(lengths: Mapping[str, tuple[int, ...]], batch: tuple) -> tuple:
    """Returns a batch `(x, ...)`, each sequence as long as the smallest bucket that holds all."""
    x = dict(batch[0])
    for name, held in lengths.items():
        longest = tf.reduce_max(ends(x[f"{name}_mask"]))
        length = tf.gather(held, tf.searchsorted(tf.constant(held), longest[None])[0])
        for key in (name, f"{name}_mask"):
            x[key] = x[key][:, :length]
    return (x, *batch[1:])
