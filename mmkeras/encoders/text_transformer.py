"""Word embeddings, learned positions and transformer blocks."""

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import begin, end
from mmkeras.layers import LearnedPositions, TransformerBlock


def text_transformer(
    name: str,
    modality: Text,
    *,
    hidden_dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    intermediate_dim: int | None = None,
    dropout: float = 0.1,
    remat: bool = False,
) -> keras.Model:
    """A pre-norm transformer encoder over token ids.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        hidden_dim: D.
        num_layers, num_heads: of the blocks.
        intermediate_dim: width of the MLPs; 4 D when None.
        dropout: rate inside the blocks.
        remat: whether the blocks keep no activations (see `TransformerBlock`).

    Returns:
        Functional model to tokens (B, L, D) and the mask (B, L).
    """
    inputs, ids, mask = begin(name, modality)
    x = keras.layers.Embedding(len(modality.vocabulary), hidden_dim, name=f"{name}_embedding")(ids)
    x = LearnedPositions(modality.length, name=f"{name}_positions")(x)
    for i in range(num_layers):
        x = TransformerBlock(
            num_heads,
            intermediate_dim or 4 * hidden_dim,
            dropout=dropout,
            remat=remat,
            name=f"{name}_block{i}",
        )(x, mask)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "transformer", inputs, x, mask)
