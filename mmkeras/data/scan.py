"""Finds the items that cannot be decoded, with the reason, before any training starts."""

from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column, Reader


def unreadable(modality: Modality, column: Column) -> dict[int, str]:
    """Returns item -> reason for every item of a column that cannot be decoded.

    Every distinct file is decoded once, in parallel; numbers are checked for NaN and infinity.
    """
    if column.form == "decoded" or modality.kind == "text":
        return {}
    if modality.kind == "vector":
        broken = ~np.isfinite(column.items).all(axis=1) & ~np.isnan(column.items).all(axis=1)
        return {int(i): f"has NaN or infinity: {column.items[i]}" for i in np.flatnonzero(broken)}
    reader = Reader(modality, column)

    def attempt(item: Any) -> Any:
        value, _ = reader.decode(item[None])
        with tf.control_dependencies([value]):
            return tf.identity(item)

    good = (
        tf.data.Dataset.range(len(column.items))
        .map(attempt, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors(log_warning=False)
    )
    bad = sorted(set(range(len(column.items))) - {int(i) for i in good.as_numpy_iterator()})
    return {item: _reason(reader, item) for item in bad}


def _reason(reader: Reader, item: int) -> str:
    try:
        reader.decode(tf.constant([item], tf.int64))
    except (tf.errors.OpError, ValueError) as error:
        text = str(getattr(error, "message", error))
        if "Summarized data:" in text:  # a tf.debugging.Assert of the decoder
            text = text.split("Summarized data:")[1].replace("b'", "").replace("'", "")
        text = text.split("[Op:")[0].replace("{{function_node __wrapped__", "").strip()
        return " ".join(text.split())[:300]
    return "could not be decoded when read first, but could be afterwards"
