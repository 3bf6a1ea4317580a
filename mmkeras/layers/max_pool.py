"""Max pooling over time and space, in every dtype and on every device."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register


@register
class MaxPool3D(keras.layers.Layer):
    """The largest of every t x h x w block; blocks at the ends may be smaller.

    As `keras.layers.MaxPooling3D(padding="same")` with blocks that begin at the first frame and
    pixel; that one has no float16 on a CPU, and is slower there.

    Args:
        pool_size: (t, h, w); the strides too.

    Call arguments:
        x: (B, N, H, W, C).

    Returns:
        (B, N / t, H / h, W / w, C), rounded up.
    """

    def __init__(self, pool_size: Sequence[int], **kwargs: Any) -> None:
        """Stores the size."""
        super().__init__(**kwargs)
        self.pool_size = [checks.whole("pool_size", side) for side in pool_size]

    def call(self, x: Any) -> Any:
        """Returns the maxima."""
        sides = zip(x.shape[1:4], self.pool_size, strict=True)
        pads = ((0, 0), *((0, -side % size) for side, size in sides), (0, 0))
        if any(after for _, after in pads):
            x = ops.pad(x, pads, constant_values=-float("inf"))
        t, h, w = self.pool_size
        starts = itertools.product(range(t), range(h), range(w))
        return functools.reduce(ops.maximum, (x[:, i::t, j::h, k::w] for i, j, k in starts))

    def compute_output_shape(self, x_shape: tuple) -> tuple:
        """Each side becomes shorter."""
        sides = zip(x_shape[1:4], self.pool_size, strict=True)
        return (x_shape[0], *(-(-side // size) for side, size in sides), x_shape[4])

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "pool_size": self.pool_size}
