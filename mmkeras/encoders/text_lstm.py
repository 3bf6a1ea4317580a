"""Word embeddings and an LSTM."""

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import begin, end


def text_lstm(
    name: str,
    modality: Text,
    *,
    embedding_dim: int = 64,
    hidden_dim: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """Embedding, then an LSTM (Hochreiter & Schmidhuber 1997) that skips padding.

    The LSTM never uses cuDNN, so that the same graph compiles under XLA on every device.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        embedding_dim: width of the word vectors.
        hidden_dim: units; D = hidden_dim, twice that when bidirectional.
        bidirectional: whether a second LSTM reads backwards.
        dropout: rate on the word vectors.

    Returns:
        Functional model to tokens (B, L, D) and the mask (B, L).
    """
    inputs, ids, mask = begin(name, modality)
    x = keras.layers.Embedding(len(modality.vocabulary), embedding_dim, name=f"{name}_embedding")(
        ids
    )
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    layer = keras.layers.LSTM(
        hidden_dim, return_sequences=True, use_cudnn=False, name=f"{name}_lstm"
    )
    if bidirectional:
        layer = keras.layers.Bidirectional(layer, name=f"{name}_bilstm")
    return end(name, "lstm", inputs, layer(x, mask=mask), mask)
