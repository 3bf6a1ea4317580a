"""A learned stand-in for an absent modality, so that nothing downstream can be all-masked."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.layers.masking import zero_masked


@register
class AbsentToken(keras.layers.Layer):
    """Appends one learned token that is valid exactly where the modality is absent.

    After it every sample has at least one valid token: softmax, means and maxima over the
    sequence are finite, and the model learns what "not there" means. Learned absent tokens are
    usual for missing modalities (e.g. arXiv 2204.05454, "missing-aware prompts").

    Call arguments:
        tokens: (B, T, D).
        mask: bool (B, T); all false = absent.

    Returns:
        `(tokens, mask)`: (B, T + 1, D) with zeros behind false, and bool (B, T + 1).
    """

    def build(self, input_shape: tuple) -> None:
        """Creates the token (1, 1, D)."""
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="token",
        )

    def call(self, tokens: Any, mask: Any) -> tuple[Any, Any]:
        """Returns the extended sequence and mask."""
        absent = ops.logical_not(ops.any(mask, axis=1, keepdims=True))  # (B, 1)
        token = ops.broadcast_to(
            ops.cast(self.token, tokens.dtype), (ops.shape(tokens)[0], 1, tokens.shape[-1])
        )
        mask = ops.concatenate([mask, absent], axis=1)
        return zero_masked(ops.concatenate([tokens, token], axis=1), mask), mask

    def compute_output_spec(self, tokens: Any, mask: Any) -> tuple:
        """One more position on the time axis."""
        batch, time, dim = tokens.shape
        time = None if time is None else time + 1
        return (
            keras.KerasTensor((batch, time, dim), self.compute_dtype),
            keras.KerasTensor((batch, time), "bool"),
        )
