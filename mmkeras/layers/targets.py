"""What a decoder of masked parts predicts: patches of a picture, spans of a sequence."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import zero_masked


@register
class PatchTargets(keras.layers.Layer):
    """Cuts a picture into patches, each standardised over its own pixels and channels, or as it is.

    x = (pixels / 127.5 - 1); (x - mean) / sqrt(variance + 1e-6) of every patch, as the target of
    masked autoencoders (He et al. 2022, 3; deviation: the variance over n, not n - 1). A picture
    that is no multiple of the patch is padded with mid-grey on both sides, as a convolution with
    padding="same" sees it.

    Args:
        patch: pixels on each side.
        normalize: whether to standardise. What is then lost is the mean and the contrast of a
            patch: where colour alone tells (flat areas become zero), leave the pixels in [-1, 1].

    Call arguments: uint8 (B, H, W, C). Returns float32 (B, T, patch * patch * C), T as `image_vit`.
    """

    def __init__(self, patch: int, normalize: bool = True, **kwargs: Any) -> None:
        """Stores the arguments; the layer has no weights and works in float32."""
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.patch = checks.whole("patch", patch)
        self.normalize = bool(normalize)

    def call(self, pixels: Any) -> Any:
        """Returns the patches."""
        p, (height, width, channels) = self.patch, pixels.shape[1:]
        x = ops.cast(pixels, "float32") / 127.5 - 1.0
        missing = (-height % p, -width % p)
        x = ops.pad(x, ((0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)))
        rows, columns = x.shape[1] // p, x.shape[2] // p
        x = ops.transpose(ops.reshape(x, (-1, rows, p, columns, p, channels)), (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, rows * columns, p * p * channels))
        if not self.normalize:
            return x
        mean = ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(x - mean), axis=-1, keepdims=True)
        return (x - mean) / ops.sqrt(variance + 1e-6)

    def compute_output_spec(self, pixels: Any) -> keras.KerasTensor:
        """(B, T, patch * patch * C)."""
        batch, height, width, channels = pixels.shape
        count = -(-height // self.patch) * -(-width // self.patch)
        return keras.KerasTensor((batch, count, self.patch**2 * channels), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "patch": self.patch, "normalize": self.normalize}


@register
class SpanTargets(keras.layers.Layer):
    """Cuts a sequence of vectors into spans: (B, F, M) -> (B, N, size * M), and which are real.

    Args:
        size: vectors of a span.
        count: spans N; what comes later is cut, what is missing is no real number.

    Call arguments:
        x: float (B, F, M).
        mask: bool (B, F).

    Returns:
        `(spans, real)`: float32, zero where it is not real, and bool; both (B, N, size * M).
    """

    def __init__(self, size: int, count: int, **kwargs: Any) -> None:
        """Stores the sizes; the layer has no weights and works in float32."""
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        self.size, self.count = checks.whole("size", size), checks.whole("count", count)

    def call(self, x: Any, mask: Any) -> tuple[Any, Any]:
        """Returns the spans and their mask."""
        width, wanted = x.shape[2], self.size * self.count
        x = zero_masked(ops.cast(x, "float32"), mask)[:, :wanted]
        mask = ops.repeat(mask[:, :wanted, None], width, axis=2)
        missing = ((0, 0), (0, wanted - x.shape[1]), (0, 0))
        shape = (-1, self.count, self.size * width)
        return ops.reshape(ops.pad(x, missing), shape), ops.reshape(ops.pad(mask, missing), shape)

    def compute_output_spec(self, x: Any, mask: Any) -> tuple:
        """Both (B, N, size * M)."""
        shape = (x.shape[0], self.count, self.size * x.shape[2])
        return keras.KerasTensor(shape, "float32"), keras.KerasTensor(shape, "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "count": self.count}
