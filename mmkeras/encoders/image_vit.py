"""A vision transformer."""

from typing import Any

import keras

from mmkeras.core import Image
from mmkeras.encoders.base import GridMask, ScalePixels, begin, end, sizes_of
from mmkeras.layers import LearnedPositions, TransformerBlock

# "Ti" and "S" are of Touvron et al. 2021 and Steiner et al. 2022.
VARIANTS = {
    "small": {"patch": 8, "hidden_dim": 64, "num_layers": 4, "num_heads": 4, "intermediate_dim": 128},
    "Ti/16": {"patch": 16, "hidden_dim": 192, "num_layers": 12, "num_heads": 3, "intermediate_dim": 768},
    "S/16": {"patch": 16, "hidden_dim": 384, "num_layers": 12, "num_heads": 6, "intermediate_dim": 1536},
    "B/16": {"patch": 16, "hidden_dim": 768, "num_layers": 12, "num_heads": 12, "intermediate_dim": 3072},
    "B/32": {"patch": 32, "hidden_dim": 768, "num_layers": 12, "num_heads": 12, "intermediate_dim": 3072},
    "L/16": {"patch": 16, "hidden_dim": 1024, "num_layers": 24, "num_heads": 16, "intermediate_dim": 4096},
    "L/32": {"patch": 32, "hidden_dim": 1024, "num_layers": 24, "num_heads": 16, "intermediate_dim": 4096},
    "H/14": {"patch": 14, "hidden_dim": 1280, "num_layers": 32, "num_heads": 16, "intermediate_dim": 5120},
}  # fmt: skip


def image_vit(
    name: str,
    modality: Image,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    remat: bool = False,
    **sizes: Any,
) -> keras.Model:
    """A vision transformer (Dosovitskiy et al. 2021, table 1): patches, positions, blocks, norm.

    Deviations: no class token, because pooling belongs to fusion and heads (the paper finds
    average pooling as good, appendix D.3); a picture that is no multiple of the patch is padded
    with mid-grey; the keys have no bias (see `TransformerBlock`).

    Args:
        name: of the modality; prefix of every layer.
        modality: an `Image` of H x W x C.
        variant: a key of `VARIANTS`.
        dropout: rate on the patches and inside the blocks.
        remat: whether the blocks keep no activations (see `TransformerBlock`).
        **sizes: in place of the variant's: `patch` (pixels on each side), `hidden_dim` (D),
            `num_layers`, `num_heads`, `intermediate_dim`.

    Returns:
        Functional model to tokens (B, T, D), T = H / patch * W / patch, each rounded up, and the
        mask (B, T).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, pixels, present = begin(name, modality)
    x = ScalePixels(name=f"{name}_scale")(pixels)
    patch, dim = size["patch"], size["hidden_dim"]
    x = keras.layers.Conv2D(dim, patch, patch, padding="same", name=f"{name}_patches")(x)
    num_tokens = x.shape[1] * x.shape[2]
    x = keras.layers.Reshape((num_tokens, dim), name=f"{name}_grid")(x)
    x = LearnedPositions(num_tokens, name=f"{name}_positions")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    mask = GridMask(num_tokens, name=f"{name}_grid_mask")(present)
    for i in range(size["num_layers"]):
        x = TransformerBlock(
            size["num_heads"],
            size["intermediate_dim"],
            dropout=dropout,
            remat=remat,
            name=f"{name}_block{i}",
        )(x, mask)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "vit", inputs, x, mask)
