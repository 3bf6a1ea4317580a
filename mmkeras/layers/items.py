"""Items of a sample as samples of their own, and back: frames of a clip, pictures of a set."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register


@register
class MergeItems(keras.layers.Layer):
    """(B, K, ...) -> (B * K, ...) of any dtype."""

    def __init__(self, **kwargs: Any) -> None:
        """Makes the layer; it has no weights."""
        super().__init__(autocast=False, **kwargs)

    def call(self, value: Any) -> Any:
        """Returns the items one after the other."""
        return ops.reshape(value, (-1, *value.shape[2:]))

    def compute_output_spec(self, value: Any) -> keras.KerasTensor:
        """The first two axes become one."""
        batch, count, *rest = value.shape
        return keras.KerasTensor((batch and batch * count, *rest), value.dtype)


@register
class SplitItems(keras.layers.Layer):
    """(B * K, ...) -> (B, K, ...) of any dtype.

    Args:
        count: K.
    """

    def __init__(self, count: int, **kwargs: Any) -> None:
        """Stores the count."""
        super().__init__(autocast=False, **kwargs)
        self.count = checks.whole("count", count)

    def call(self, value: Any) -> Any:
        """Returns K items per sample."""
        return ops.reshape(value, (-1, self.count, *value.shape[1:]))

    def compute_output_spec(self, value: Any) -> keras.KerasTensor:
        """One more axis behind the batch."""
        rows, *rest = value.shape
        return keras.KerasTensor((rows and rows // self.count, self.count, *rest), value.dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "count": self.count}


@register
class JoinItems(keras.layers.Layer):
    """The tokens of K items as one sequence, plus a learned vector per place of an item.

    Call arguments:
        tokens: (B, K, T, D).
        mask: bool (B, K, T).

    Returns:
        `(tokens, mask)`: (B, K * T, D), and bool (B, K * T).
    """

    def build(self, tokens_shape: tuple, mask_shape: tuple = None) -> None:
        """Creates the table (K, 1, D)."""
        self.table = self.add_weight(
            shape=(tokens_shape[1], 1, tokens_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="table",
        )

    def call(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        """Returns the long sequence."""
        _, count, time, width = tokens.shape
        tokens = tokens + ops.cast(self.table, tokens.dtype)
        tokens = ops.reshape(tokens, (-1, count * time, width))
        return tokens, ops.reshape(mask, (-1, count * time))

    def compute_output_spec(self, tokens: Any, mask: Any) -> tuple:
        """Two axes become one."""
        batch, count, time, width = tokens.shape
        return (
            keras.KerasTensor((batch, count * time, width), self.compute_dtype),
            keras.KerasTensor((batch, count * time), "bool"),
        )
