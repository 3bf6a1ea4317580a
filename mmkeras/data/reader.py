"""Row numbers of a column to decoded batches."""

from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column, read_files
from mmkeras.data.draws import Draws
from mmkeras.data.kinds import decoder, is_random


class Reader:
    """Turns row numbers into decoded batches, in the graph."""

    def __init__(self, modality: Modality, column: Column, **kwargs: Any) -> None:
        """Moves the items into tensors; the keywords are for the kind's decoder."""
        self.form = column.form
        self.index = tf.constant(column.index)
        self.items = tensor(column.items)
        self.mask = None if column.mask is None else tensor(column.mask)
        # What is decoded may still be cropped at random.
        ready = column.form == "decoded" and not getattr(modality, "augment", {})
        self.decoder = None if ready else decoder(modality.item, **kwargs)

    def __call__(self, rows: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Returns the value and mask of a batch of rows; see `decode`."""
        items = tf.gather(self.index, rows)
        if len(items.shape) == 1:
            return self.decode(items, draws)
        parts = self.decode(tf.reshape(items, [-1]), draws)  # of Several, K items a row
        return tuple(tf.reshape(p, [-1, items.shape[1], *p.shape[1:]]) for p in parts)

    def decode(self, items: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Returns the value and mask of a batch of items.

        With draws, what a spec's `augment` does before or while decoding is done: crops of
        pictures and clips, noise on characters.
        """
        held = tf.gather(self.items, items)
        if self.form == "decoded":
            mask = tf.gather(self.mask, items)
            crop = None if draws is None else getattr(self.decoder, "crop", None)
            return (held, mask) if crop is None else self.decoder.recrop(held, mask, draws)
        raw = read_files(held) if self.form == "path" else held
        chosen = draws is not None and is_random(self.decoder)
        return self.decoder(raw, draws) if chosen else self.decoder(raw)


def tensor(items: np.ndarray) -> Any:
    """Returns a tensor of a column's items; of a mapped file without reading it."""
    if isinstance(items, np.memmap):
        return tf.experimental.dlpack.from_dlpack(items.__dlpack__())
    return tf.constant(items if items.dtype.kind != "O" else items.tolist())
