"""FT-Transformer: every cell of a table row a token."""

from typing import Any

import keras

from mmkeras.core import Table, register
from mmkeras.encoders.base import PoolMask, begin, end, sizes_of
from mmkeras.encoders.table_cells import FeatureTokenizer
from mmkeras.layers import TransformerBlock

VARIANTS = {
    "small": {"hidden_dim": 32, "num_layers": 2, "num_heads": 4, "intermediate_dim": 64},
    "default": {"hidden_dim": 192, "num_layers": 3, "num_heads": 8, "intermediate_dim": 256},
}
"""`default`: the paper's default configuration, with 4/3 D as the width inside the MLP."""


def table_ft_transformer(
    name: str,
    modality: Table,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    **sizes: Any,
) -> keras.Model:
    """Feature tokenizer, transformer blocks, and the [CLS] token (Gorishniy et al. 2021).

    Missing cells are not attended to. Deviations: GELU instead of ReGLU in the MLPs, one dropout
    rate, the first block keeps its first norm, keys have no bias.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Table` of C columns.
        variant: a key of `VARIANTS`.
        dropout: rate inside the blocks.
        **sizes: in place of the variant's: `hidden_dim` (D), `num_layers`, `num_heads`,
            `intermediate_dim`.

    Returns:
        Functional model to tokens (B, 1, D) and the mask (B, 1), true where any cell is there.
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, cells, mask = begin(name, modality)
    x, attended = FeatureTokenizer(
        len(modality.numeric), modality.sizes, size["hidden_dim"], name=f"{name}_tokenizer"
    )(cells, mask)
    for i in range(size["num_layers"]):
        x = TransformerBlock(
            size["num_heads"], size["intermediate_dim"], dropout=dropout, name=f"{name}_block{i}"
        )(x, attended)
    x = FirstToken(name=f"{name}_cls")(x)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    row = PoolMask(len(modality.columns), name=f"{name}_row")(mask)
    return end(name, "ft_transformer", inputs, x, row)


@register
class FirstToken(keras.layers.Layer):
    """(B, T, D) -> (B, 1, D): the first position."""

    def call(self, tokens: Any) -> Any:
        """Returns the first token."""
        return tokens[:, :1]

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """T becomes 1."""
        return (input_shape[0], 1, input_shape[2])
