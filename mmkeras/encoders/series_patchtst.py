"""PatchTST: patches of every channel as tokens of one transformer."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import Series, checks, register
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.layers import LearnedPositions, TransformerBlock

VARIANTS = {
    "small": {"hidden_dim": 16, "num_layers": 3, "num_heads": 4, "intermediate_dim": 128},
    "base": {"hidden_dim": 128, "num_layers": 3, "num_heads": 16, "intermediate_dim": 256},
}
"""`base`: the paper's sizes; `small`: its sizes for small data sets."""


def series_patchtst(
    name: str,
    modality: Series,
    *,
    variant: str = "small",
    patch_length: int = 16,
    stride: int = 8,
    dropout: float = 0.0,
    **sizes: Any,
) -> keras.Model:
    """Channel-independent patches, one shared transformer encoder (Nie et al. 2023).

    Each channel by itself is cut into patches, projected, given learned positions and encoded,
    with the same weights for all channels; then the channels of a patch are joined by a dense
    layer into one token. A patch is real when any of its steps is. Deviations: pre-norm layer
    normalisation instead of batch normalisation; no instance normalisation (the spec standardises,
    and the level of a channel says much about a class); zeros pad the end instead of its last
    value; the paper's head flattens instead of joining.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Series` of T x C.
        variant: a key of `VARIANTS`.
        patch_length: steps of a patch, at most T.
        stride: steps from one patch to the next, at most `patch_length`.
        dropout: rate inside the blocks.
        **sizes: in place of the variant's: `hidden_dim` (D), `num_layers`, `num_heads`,
            `intermediate_dim`.

    Returns:
        Functional model to tokens (B, N, D) and the mask (B, N), N = 1 + (T - patch_length) /
        stride, rounded up.
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, x, mask = begin(name, modality)
    if not patch_length <= modality.steps or not stride <= patch_length:
        raise ValueError(
            "A patch must fit into the series, and patches must leave no gap. Received: "
            f"patch_length={patch_length}, stride={stride} for {modality.steps} steps of {name!r}. "
            f"Give e.g. encoders={{{name!r}: {{'name': 'patchtst', 'patch_length': "
            f"{max(1, modality.steps // 4)}, 'stride': {max(1, modality.steps // 8)}}}}}."
        )
    dim, channels = size["hidden_dim"], modality.channels
    x, attended, mask = ChannelPatches(patch_length, stride, dim, name=f"{name}_patches")(x, mask)
    x = LearnedPositions(mask.shape[1], name=f"{name}_positions")(x)
    for i in range(size["num_layers"]):
        x = TransformerBlock(
            size["num_heads"], size["intermediate_dim"], dropout=dropout, name=f"{name}_block{i}"
        )(x, attended)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    x = JoinChannels(channels, name=f"{name}_channels")(x)
    return end(name, "patchtst", inputs, keras.layers.Dense(dim, name=f"{name}_join")(x), mask)


@register
class ChannelPatches(keras.layers.Layer):
    """Projected patches of every channel, the channels as further rows of the batch.

    Args:
        patch_length: P.
        stride: S.
        dim: D.

    Call arguments:
        x: (B, T, C), zero behind the mask.
        mask: bool (B, T).

    Returns:
        `(patches, rows_mask, mask)`: (B C, N, D), bool (B C, N) and bool (B, N).
    """

    def __init__(self, patch_length: int, stride: int, dim: int, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.patch_length = checks.whole("patch_length", patch_length)
        self.stride = checks.whole("stride", stride)
        self.dim = checks.whole("dim", dim)

    def build(self, x_shape: tuple, mask_shape: tuple = None) -> None:
        """Creates the projection, a convolution with the stride of the patches."""
        self.project = keras.layers.Conv1D(
            self.dim,
            self.patch_length,
            strides=self.stride,
            name="project",
            dtype=self.dtype_policy,
        )
        self.project.build((None, self._padded(x_shape[1]), 1))

    def _count(self, steps: int) -> int:
        return 1 + max(0, -(-(steps - self.patch_length) // self.stride))

    def _padded(self, steps: int) -> int:
        return (self._count(steps) - 1) * self.stride + self.patch_length

    def call(self, x: Any, mask: Any) -> tuple[Any, Any, Any]:
        """Returns patches and masks."""
        steps, channels = x.shape[1:]
        more = self._padded(steps) - steps
        x = ops.pad(x, ((0, 0), (0, more), (0, 0)))
        x = ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, steps + more, 1))
        mask = ops.pad(mask, ((0, 0), (0, more)))
        starts = range(0, self._count(steps) * self.stride, self.stride)
        parts = [ops.any(mask[:, s : s + self.patch_length], axis=1) for s in starts]
        mask = ops.stack(parts, axis=1)
        return self.project(x), ops.repeat(mask, channels, axis=0), mask

    def compute_output_spec(self, x: Any, mask: Any) -> tuple:
        """(B C, N, D), (B C, N), (B, N)."""
        batch, steps, channels = x.shape
        rows = None if batch is None else batch * channels
        count = self._count(steps)
        return (
            keras.KerasTensor((rows, count, self.dim), self.compute_dtype),
            keras.KerasTensor((rows, count), "bool"),
            keras.KerasTensor((batch, count), "bool"),
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("patch_length", "stride", "dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class JoinChannels(keras.layers.Layer):
    """(B C, N, D) -> (B, N, C D): what `ChannelPatches` took apart, the channels side by side."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        """Stores the number of channels C."""
        super().__init__(**kwargs)
        self.channels = checks.whole("channels", channels)

    def call(self, patches: Any) -> Any:
        """Returns the joined patches."""
        count, dim = patches.shape[1:]
        x = ops.reshape(patches, (-1, self.channels, count, dim))
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, count, self.channels * dim))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """(B, N, C D)."""
        rows, count, dim = input_shape
        batch = None if rows is None else rows // self.channels
        return (batch, count, self.channels * dim)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "channels": self.channels}
