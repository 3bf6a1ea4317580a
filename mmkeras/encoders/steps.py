"""What encoders of steps share: the check that there are steps, and pooling over them."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import Modality, checks, register
from mmkeras.encoders.base import PoolMask
from mmkeras.layers.masking import zero_masked


def check_steps(name: str, modality: Modality) -> None:
    """Raises unless the modality is a sequence."""
    if not modality.mask_shape:
        raise ValueError(
            f"This encoder reads a sequence, and {name!r} has no steps. Received: {modality}. "
            "Declare mk.Vector(size=..., steps=...) or mk.Series(...), or take the encoder 'mlp'."
        )


def pooled(name: str, tokens: Any, mask: Any, pool: int) -> tuple[Any, Any]:
    """Returns tokens and mask with `pool` steps averaged into each token."""
    if checks.whole("pool", pool) == 1:
        return tokens, mask
    tokens = PoolSteps(pool, name=f"{name}_pool")(tokens, mask)
    return tokens, PoolMask(pool, name=f"{name}_pool_mask")(mask)


@register
class PoolSteps(keras.layers.Layer):
    """Mean over the real ones of every `stride` steps: (B, T, D) -> (B, ceil(T / stride), D).

    Args:
        stride: steps per token; the last token may have fewer.

    Call arguments:
        tokens: (B, T, D).
        mask: bool (B, T). A token without a real step is zero.
    """

    def __init__(self, stride: int, **kwargs: Any) -> None:
        """Stores the stride."""
        super().__init__(**kwargs)
        self.supports_masking = True
        self.stride = checks.whole("stride", stride)

    def call(self, tokens: Any, mask: Any) -> Any:
        """Returns the means, summed in float32."""
        steps, width = tokens.shape[1:]
        length = -(-steps // self.stride)
        more = length * self.stride - steps
        x = ops.pad(zero_masked(tokens, mask), ((0, 0), (0, more), (0, 0)))
        x = ops.reshape(ops.cast(x, "float32"), (-1, length, self.stride, width))
        count = ops.reshape(ops.pad(mask, ((0, 0), (0, more))), (-1, length, self.stride, 1))
        count = ops.maximum(ops.sum(ops.cast(count, "float32"), axis=2), 1.0)
        return ops.cast(ops.sum(x, axis=2) / count, tokens.dtype)

    def compute_mask(self, tokens: Any, mask: Any = None) -> None:
        """Ends Keras' implicit mask: masks are explicit tensors here."""

    def compute_output_spec(self, tokens: Any, mask: Any) -> keras.KerasTensor:
        """T becomes ceil(T / stride)."""
        batch, steps, width = tokens.shape
        return keras.KerasTensor((batch, -(-steps // self.stride), width), self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "stride": self.stride}
