"""A vision transformer."""

from typing import Any

import keras

from mmkeras.core import Image
from mmkeras.encoders.base import GridMask, ScalePixels, begin, end, sizes_of
from mmkeras.layers import LearnedPositions, TransformerBlock

_SIZES = ("patch", "hidden_dim", "num_layers", "num_heads", "intermediate_dim")
_TABLE = {
    "small": (8, 64, 4, 4, 128),
    "Ti/16": (16, 192, 12, 3, 768),  # Touvron et al. 2021
    "S/16": (16, 384, 12, 6, 1536),  # Steiner et al. 2022
    "B/16": (16, 768, 12, 12, 3072),
    "B/32": (32, 768, 12, 12, 3072),
    "L/16": (16, 1024, 24, 16, 4096),
    "L/32": (32, 1024, 24, 16, 4096),
    "H/14": (14, 1280, 32, 16, 5120),
}
VARIANTS = {name: dict(zip(_SIZES, sizes, strict=True)) for name, sizes in _TABLE.items()}


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
