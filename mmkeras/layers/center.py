"""What stands still in a clip, taken away."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.layers.masking import expand_mask, zero_masked


@register
class CenterFrames(keras.layers.Layer):
    """Subtracts every pixel's mean over the real frames; what does not move becomes zero.

    Call arguments:
        clip: (B, N, ...).
        mask: bool (B, N), the real frames.

    Returns:
        clip - sum(mask * clip) / max(sum(mask), 1), in float32, then cast; zero behind the mask.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Makes the layer; it has no weights."""
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, clip: Any, mask: Any) -> Any:
        """Returns the centred clip."""
        x = ops.cast(zero_masked(clip, mask), "float32")
        count = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        mean = ops.sum(x, axis=1, keepdims=True) / expand_mask(
            ops.maximum(count, 1.0), len(x.shape)
        )
        return ops.cast(zero_masked(x - mean, mask), self.compute_dtype)

    def compute_mask(self, clip: Any, mask: Any = None) -> None:
        """Ends Keras' implicit mask: masks are explicit tensors here."""

    def compute_output_spec(self, clip: Any, mask: Any) -> keras.KerasTensor:
        """The shape stays."""
        return keras.KerasTensor(clip.shape, self.compute_dtype)
