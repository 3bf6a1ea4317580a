"""Learned absolute positions."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register


@register
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector per position: (B, T, D) -> (B, T, D), T <= `length`.

    Args:
        length: largest T.
    """

    def __init__(self, length: int, **kwargs: Any) -> None:
        """Stores the length."""
        super().__init__(**kwargs)
        self.length = checks.whole("length", length)

    def build(self, input_shape: tuple) -> None:
        """Creates the table (length, D)."""
        if input_shape[1] is not None and input_shape[1] > self.length:
            raise ValueError(
                f"The sequence must not be longer than `length`={self.length}. "
                f"Received: {input_shape[1]} positions. Raise `length`."
            )
        self.table = self.add_weight(
            shape=(self.length, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, tokens: Any) -> Any:
        """Returns `tokens` plus the first T rows of the table."""
        return tokens + ops.cast(self.table[: ops.shape(tokens)[1]], tokens.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "length": self.length}
