"""The two operations on which the mask contract rests: cut off masked content, pool the rest."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import register


def expand_mask(mask: Any, rank: int) -> Any:
    """Returns `mask` with trailing axes of length 1 up to `rank`."""
    for _ in range(rank - len(mask.shape)):
        mask = ops.expand_dims(mask, -1)
    return mask


def zero_masked(value: Any, mask: Any) -> Any:
    """Returns `value` where `mask` is true, exact zero elsewhere (NaN behind a mask included)."""
    return ops.where(expand_mask(mask, len(value.shape)), value, ops.zeros_like(value))


def masked_mean(tokens: Any, mask: Any) -> Any:
    """Mean over the true positions; zero where there is none.

    Args:
        tokens: (B, T, D).
        mask: bool (B, T).

    Returns:
        (B, D): sum(mask * tokens) / max(sum(mask), 1), accumulated in float32.
    """
    weights = ops.cast(mask, "float32")
    total = ops.sum(ops.cast(zero_masked(tokens, mask), "float32"), axis=1)
    count = ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
    return ops.cast(total / count, tokens.dtype)


@register
class ZeroMasked(keras.layers.Layer):
    """Replaces what stands behind a false mask by zero: the first layer of every encoder.

    Call arguments:
        value: (B, ...) of any dtype; the dtype is kept.
        mask: bool, (B,) or (B, T).

    Returns:
        Same shape and dtype as `value`.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Makes the layer; it has no weights."""
        super().__init__(autocast=False, **kwargs)
        self.supports_masking = True

    def call(self, value: Any, mask: Any) -> Any:
        """Returns `value` with zeros where `mask` is false."""
        return zero_masked(value, mask)

    def compute_mask(self, value: Any, mask: Any = None) -> None:
        """Ends Keras' implicit mask: masks are explicit tensors here."""

    def compute_output_spec(self, value: Any, mask: Any) -> keras.KerasTensor:
        """Shape and dtype stay."""
        return keras.KerasTensor(value.shape, value.dtype)


@register
class MeanToken(keras.layers.Layer):
    """A sequence as one token: the mean of its real ones (`masked_mean`).

    Call arguments:
        tokens: (B, T, D).
        mask: bool (B, T).

    Returns:
        `(token, mask)`: (B, 1, D), and bool (B, 1), true where any token is real.
    """

    def call(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        """Returns the mean and whether there is one."""
        return masked_mean(tokens, mask)[:, None], ops.any(mask, axis=1, keepdims=True)

    def compute_output_spec(self, tokens: Any, mask: Any) -> tuple:
        """T becomes 1."""
        batch, _, width = tokens.shape
        return (
            keras.KerasTensor((batch, 1, width), self.compute_dtype),
            keras.KerasTensor((batch, 1), "bool"),
        )
