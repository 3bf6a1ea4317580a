"""Pixels as a pretrained model expects them."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import register


@register
class NormalizePixels(keras.layers.Layer):
    """uint8 0..255 to `pixels * scale + offset` per channel, in float32, then the compute dtype.

    Args:
        scale, offset: number, or one per channel.
        reverse: whether the channels are turned around first (RGB to BGR).
    """

    def __init__(
        self, scale: Any = 1.0, offset: Any = 0.0, reverse: bool = False, **kwargs: Any
    ) -> None:
        """Stores the arguments; it has no weights."""
        super().__init__(autocast=False, **kwargs)
        self.scale, self.offset, self.reverse = scale, offset, reverse

    def call(self, pixels: Any) -> Any:
        """Returns the scaled pixels."""
        x = ops.cast(pixels, "float32")
        x = ops.flip(x, axis=-1) if self.reverse else x
        scale = ops.convert_to_tensor(self.scale, "float32")
        return ops.cast(
            x * scale + ops.convert_to_tensor(self.offset, "float32"), self.compute_dtype
        )

    def compute_output_spec(self, pixels: Any) -> keras.KerasTensor:
        """The shape stays."""
        return keras.KerasTensor(pixels.shape, self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {"scale": self.scale, "offset": self.offset, "reverse": self.reverse}
        return {**super().get_config(), **own}
