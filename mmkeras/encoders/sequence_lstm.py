"""LSTM layers over a series or a sequence of vectors."""

import keras

from mmkeras.core import Series, Vector
from mmkeras.encoders.base import begin, end
from mmkeras.encoders.steps import check_steps, pooled


def sequence_lstm(
    name: str,
    modality: Series | Vector,
    *,
    hidden_dim: int = 64,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    pool: int = 1,
) -> keras.Model:
    """LSTM layers (Hochreiter & Schmidhuber 1997) that skip steps that are not there.

    They never use cuDNN, so that the same graph compiles under XLA on every device.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Series`, or a `Vector` with steps; T steps.
        hidden_dim: units; D = hidden_dim, twice that when bidirectional.
        num_layers: number of LSTMs on top of each other.
        bidirectional: whether a second LSTM reads backwards in each.
        dropout: rate on the input of every layer but the first.
        pool: steps averaged into a token.

    Returns:
        Functional model to tokens (B, T / pool rounded up, D) and their mask.
    """
    inputs, x, mask = begin(name, modality)
    check_steps(name, modality)
    for i in range(num_layers):
        if i and dropout:
            x = keras.layers.Dropout(dropout, name=f"{name}_dropout{i}")(x)
        layer = keras.layers.LSTM(
            hidden_dim, return_sequences=True, use_cudnn=False, name=f"{name}_lstm{i}"
        )
        if bidirectional:
            layer = keras.layers.Bidirectional(layer, name=f"{name}_bilstm{i}")
        x = layer(x, mask=mask)
    return end(name, "lstm", inputs, *pooled(name, x, mask, pool))
