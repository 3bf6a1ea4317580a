"""A multi-layer perceptron over a vector of numbers."""

import keras

from mmkeras.core import Vector
from mmkeras.encoders.base import GridMask, begin, end


def vector_mlp(
    name: str,
    modality: Vector,
    *,
    hidden_dim: int = 64,
    num_layers: int = 2,
    dropout: float = 0.0,
) -> keras.Model:
    """Dense layers with layer normalisation and GELU.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Vector` of F numbers.
        hidden_dim: D.
        num_layers: number of dense layers.
        dropout: rate after each.

    Returns:
        Functional model to tokens (B, 1, D) and the mask (B, 1).
    """
    inputs, x, present = begin(name, modality)
    for i in range(num_layers):
        x = keras.layers.Dense(hidden_dim, name=f"{name}_dense{i}")(x)
        x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm{i}")(x)
        x = keras.layers.Activation("gelu", name=f"{name}_gelu{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout{i}")(x)
    tokens = keras.layers.Reshape((1, hidden_dim), name=f"{name}_token")(x)
    return end(name, "mlp", inputs, tokens, GridMask(1, name=f"{name}_mask1")(present))
