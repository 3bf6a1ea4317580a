"""Transformer blocks over a sequence of vectors."""

import keras

from mmkeras.core import Vector
from mmkeras.encoders.base import begin, end
from mmkeras.encoders.steps import check_steps
from mmkeras.layers import LearnedPositions, TransformerBlock


def sequence_transformer(
    name: str,
    modality: Vector,
    *,
    hidden_dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 4,
    intermediate_dim: int | None = None,
    dropout: float = 0.0,
) -> keras.Model:
    """A dense layer per step, learned positions, and a pre-norm transformer encoder.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Vector` with T steps.
        hidden_dim: D.
        num_layers, num_heads: of the blocks.
        intermediate_dim: width of the MLPs; 4 D when None.
        dropout: rate inside the blocks.

    Returns:
        Functional model to tokens (B, T, D) and the mask (B, T).
    """
    inputs, x, mask = begin(name, modality)
    check_steps(name, modality)
    x = keras.layers.Dense(hidden_dim, name=f"{name}_project")(x)
    x = LearnedPositions(modality.steps, name=f"{name}_positions")(x)
    for i in range(num_layers):
        x = TransformerBlock(
            num_heads, intermediate_dim or 4 * hidden_dim, dropout=dropout, name=f"{name}_block{i}"
        )(x, mask)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "transformer", inputs, x, mask)
