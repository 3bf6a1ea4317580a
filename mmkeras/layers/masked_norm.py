"""Group normalisation of a sequence over its real positions alone."""

import math
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import expand_mask, zero_masked


def groups_of(filters: int) -> int:
    """Returns the number of groups of about 8 channels that divides `filters`."""
    return max(1, math.gcd(filters, filters // 8))


@register
class MaskedGroupNorm(keras.layers.Layer):
    """Group normalisation (Wu & He 2018) whose statistics leave masked positions out.

    Over the real positions, the axes between time and channels, and the channels of a group:
    (x - mean) / sqrt(variance + epsilon) * gamma + beta, in float32. Neither other samples nor
    the length of the padding changes a number; `keras.layers.GroupNormalization` counts padding.

    Args:
        groups: number of groups; must divide C.
        epsilon: added to the variance.

    Call arguments:
        x: (B, T, ..., C).
        mask: bool (B, T).

    Returns:
        Same shape as `x`, zero behind the mask.
    """

    def __init__(self, groups: int, *, epsilon: float = 1e-3, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.groups = checks.whole("groups", groups)
        self.epsilon = checks.real("epsilon", epsilon)

    def build(self, x_shape: tuple, mask_shape: tuple = None) -> None:
        """Creates gamma and beta (C,)."""
        channels = x_shape[-1]
        if channels % self.groups:
            raise ValueError(
                f"`groups` must divide the number of channels. Received: groups={self.groups}, "
                f"{channels} channels."
            )
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")

    def call(self, x: Any, mask: Any) -> Any:
        """Returns the normalised sequence."""
        time, channels = x.shape[1], x.shape[-1]
        between = math.prod(x.shape[2:-1])
        width = channels // self.groups
        parts = ops.reshape(
            ops.cast(zero_masked(x, mask), "float32"), (-1, time, between, self.groups, width)
        )
        real = ops.cast(expand_mask(mask, 5), "float32")
        count = ops.maximum(ops.sum(real, axis=1, keepdims=True) * (between * width), 1.0)
        mean = ops.sum(parts, axis=(1, 2, 4), keepdims=True) / count
        centred = (parts - mean) * real
        variance = ops.sum(centred**2, axis=(1, 2, 4), keepdims=True) / count
        parts = centred * ops.rsqrt(variance + self.epsilon)
        out = ops.reshape(parts, (-1, *x.shape[1:])) * ops.cast(self.gamma, "float32")
        out = out + ops.cast(self.beta, "float32")
        return ops.cast(zero_masked(out, mask), self.compute_dtype)

    def compute_output_spec(self, x: Any, mask: Any) -> keras.KerasTensor:
        """The shape stays."""
        return keras.KerasTensor(x.shape, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}
