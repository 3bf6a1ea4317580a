"""ViViT with a factorised encoder: transformer blocks over space, then over time."""

from typing import Any

import keras

from mmkeras.core import Video
from mmkeras.encoders.base import GridMask, end, sizes_of
from mmkeras.encoders.video_conv import begin_clip, whole_strides
from mmkeras.layers import (
    LearnedPositions,
    MeanToken,
    MergeItems,
    SplitItems,
    TransformerBlock,
)

VARIANTS = {
    "small": {
        "patch": 8, "tubelet": 2, "hidden_dim": 64, "num_heads": 4,
        "intermediate_dim": 128, "num_layers": 2, "num_temporal_layers": 2,
    },
    "base": {
        "patch": 16, "tubelet": 2, "hidden_dim": 768, "num_heads": 12,
        "intermediate_dim": 3072, "num_layers": 12, "num_temporal_layers": 4,
    },
    "large": {
        "patch": 16, "tubelet": 2, "hidden_dim": 1024, "num_heads": 16,
        "intermediate_dim": 4096, "num_layers": 24, "num_temporal_layers": 4,
    },
}  # fmt: skip


def video_vivit(
    name: str, modality: Video, *, variant: str = "small", dropout: float = 0.0, **sizes: Any
) -> keras.Model:
    """Tubelets, blocks over those of one step in time, their mean, blocks over the steps.

    Model 2 (factorised encoder) of Arnab et al. 2021, with the tubelet embedding and global
    average pooling of the spatial encoder, both as in the paper. Deviations: no class token of the
    temporal encoder, whose tokens all go to the fusion; an embedding that is drawn, not inflated
    from a picture's; keys without bias. Frames behind the mask are zero in their tubelet.

    Args:
        name: of the modality; prefix of every layer.
        modality: a `Video` of N frames, whose height and width are multiples of the patch.
        variant: of `VARIANTS`; "base" and "large" have the sizes of the paper (16x2).
        dropout: rate inside the blocks.
        **sizes: in place of the variant's: `patch` (pixels), `tubelet` (frames), `hidden_dim` (D),
            `num_heads`, `intermediate_dim`, `num_layers` (over space), `num_temporal_layers`.

    Returns:
        Functional model to tokens (B, T, D), T = N / tubelet rounded up, and the mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    patch, dim = size["patch"], size["hidden_dim"]
    if any(side % patch for side in modality.size):
        raise ValueError(
            f"The sides of {name!r} must be multiples of the patch. Received: size="
            f"{modality.size}, patch={patch}. Give another, e.g. encoders={{{name!r}: "
            f"{{'name': 'vivit', 'patch': {_divisor(modality.size, patch)}}}}}."
        )

    def blocks(x: Any, mask: Any, count: int, prefix: str) -> Any:
        for i in range(count):
            block = TransformerBlock(
                size["num_heads"], size["intermediate_dim"], dropout=dropout, name=f"{prefix}{i}"
            )
            x = block(x, mask)
        return keras.layers.LayerNormalization(epsilon=1e-6, name=f"{prefix}_norm")(x)

    inputs, x, mask = begin_clip(name, modality)
    x, mask = whole_strides(x, mask, size["tubelet"], f"{name}_tubelets")
    tubelet = (size["tubelet"], patch, patch)
    x = keras.layers.Conv3D(dim, tubelet, tubelet, name=f"{name}_tubelets")(x)
    _, time, height, width, _ = x.shape
    grid = height * width
    x = keras.layers.Reshape((time, grid, dim), name=f"{name}_grid")(x)
    x = MergeItems(name=f"{name}_merge")(x)
    x = LearnedPositions(grid, name=f"{name}_places")(x)
    real = GridMask(grid, name=f"{name}_real")(MergeItems(name=f"{name}_merge_mask")(mask))
    x = blocks(x, real, size["num_layers"], f"{name}_space")
    x, _ = MeanToken(name=f"{name}_mean")(x, real)
    x = SplitItems(time, name=f"{name}_split")(x)
    x = keras.layers.Reshape((time, dim), name=f"{name}_steps")(x)
    x = LearnedPositions(time, name=f"{name}_positions")(x)
    x = blocks(x, mask, size["num_temporal_layers"], f"{name}_time")
    return end(name, "vivit", inputs, x, mask)


def _divisor(size: tuple[int, int], patch: int) -> int:
    """The largest number up to the patch that divides both sides."""
    return max(p for p in range(1, patch + 1) if not any(side % p for side in size))
