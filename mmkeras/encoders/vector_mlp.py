"""A multi-layer perceptron over a vector of numbers, or over every vector of a sequence."""

from typing import Any

import keras

from mmkeras.core import Vector
from mmkeras.encoders.base import GridMask, begin, end
from mmkeras.layers import LearnedPositions


def vector_mlp(
    name: str,
    modality: Vector,
    *,
    hidden_dim: int = 64,
    num_layers: int = 2,
    dropout: float = 0.0,
) -> keras.Model:
    """Dense layers with layer normalisation and GELU, the same at every step of a sequence.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Vector` of F numbers, or of T steps of F.
        hidden_dim: D.
        num_layers: number of dense layers.
        dropout: rate after each.

    Returns:
        Functional model to tokens (B, 1, D) and the mask (B, 1); of a sequence tokens (B, T, D)
        with learned positions, and the mask (B, T).
    """
    inputs, x, mask = begin(name, modality)
    x = dense_blocks(name, x, hidden_dim, num_layers, dropout)
    if modality.steps is None:
        x = keras.layers.Reshape((1, hidden_dim), name=f"{name}_token")(x)
        mask = GridMask(1, name=f"{name}_mask1")(mask)
    else:
        x = LearnedPositions(modality.steps, name=f"{name}_positions")(x)
    return end(name, "mlp", inputs, x, mask)


def dense_blocks(name: str, x: Any, hidden_dim: int, num_layers: int, dropout: float) -> Any:
    """Dense, layer normalisation, GELU and dropout, `num_layers` times; (..., F) -> (..., D)."""
    for i in range(num_layers):
        x = keras.layers.Dense(hidden_dim, name=f"{name}_dense{i}")(x)
        x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm{i}")(x)
        x = keras.layers.Activation("gelu", name=f"{name}_gelu{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout{i}")(x)
    return x
