"""Finds the items that cannot be decoded, with the reason, before any training starts."""

import re

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column, is_absent
from mmkeras.data.kinds import decoder, steps
from mmkeras.data.options import tuned
from mmkeras.data.reader import Reader, tensor
from mmkeras.data.tolerant import readable

_CHUNK = 4096  # items at a time


def unreadable(modality: Modality, column: Column) -> dict[int, str]:
    """Returns item -> reason for every item of a column that cannot be decoded.

    Every distinct file is decoded once, in parallel; numbers and tables were read when their column
    was made, and what was wrong with them is among its faults.
    A file or sound that holds nothing is unreadable too: only an empty cell is an absent item.
    """
    if column.form == "decoded" or modality.kind in ("text", "vector", "table", "series"):
        return column.faults
    cropped = "temporal_crop" in getattr(modality, "augment", {})
    reader = Reader(modality, column, **({"whole": True} if cropped else {}))

    good = readable(len(column.items), reader.decode).map(
        lambda item, value, mask: (item, tf.reduce_any(mask))
    )
    real = {int(item): bool(some) for item, some in tuned(good).as_numpy_iterator()}
    absent = is_absent(column.items)
    bad = [item for item in range(len(column.items)) if not real.get(item) and not absent[item]]
    reasons = {
        item: _file(column, item) + ("is empty" if item in real else _reason(reader, item))
        for item in bad
        if item not in column.faults
    }
    return {**reasons, **column.faults}


def unusable(modality: Modality, column: Column) -> dict[int, str]:
    """Returns item -> reason for numbers too large for a model, by an adapted spec.

    By the rule by which a request is told bad (`mmkeras.data.kinds.steps.usable`).
    """
    if column.form == "decoded" or modality.kind not in ("vector", "table", "series"):
        return {}
    broken, count = decoder(modality).broken, len(column.items)
    parts = [
        broken(tensor(column.items[start : start + _CHUNK])) for start in range(0, count, _CHUNK)
    ]
    reason = (
        f"holds a number beyond {steps.LARGEST:g} as the model sees it: so many times `scale` away "
        "from `mean`, or, with normalize=False, as it is"
    )
    return dict.fromkeys(np.flatnonzero(np.concatenate(parts)).tolist(), reason)


def _file(column: Column, item: int) -> str:
    """The name of the file, to stand before a reason."""
    return f"{column.items[item].decode('utf-8')} " if column.form == "path" else ""


def _reason(reader: Reader, item: int) -> str:
    try:
        reader.decode(tf.constant([item], tf.int64))
    except (tf.errors.OpError, ValueError) as error:
        text = str(getattr(error, "message", error))
        if isinstance(error, UnicodeDecodeError):  # an error's text that holds the item's bytes
            text = error.object.decode("utf-8", "replace")
        if "Summarized data:" in text:  # a tf.debugging.Assert of the decoder
            text = text.split("Summarized data:")[1].replace("b'", "").replace("'", "")
        text = text.split("[Op:")[0].rsplit("\n\n", 1)[-1]  # without the lines of code above it
        text = re.sub(r"^\s*\w+Error: |\{\{.*?\}\}", "", text)
        return " ".join(text.split())[:300].rstrip(".")
    return "could not be decoded when read first, but could be afterwards"
