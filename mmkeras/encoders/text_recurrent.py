"""Word embeddings and a recurrent layer: LSTM, bidirectional LSTM, GRU."""

from typing import Any

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import begin, end
from mmkeras.encoders.recurrence import recurrent
from mmkeras.encoders.word_vectors import word_embedding


def text_lstm(
    name: str,
    modality: Text,
    *,
    embedding_dim: int = 64,
    hidden_dim: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    embeddings: Any = None,
) -> keras.Model:
    """Embedding, then an LSTM (Hochreiter & Schmidhuber 1997) that skips padding.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        embedding_dim: width of the word vectors.
        hidden_dim: units; D = hidden_dim, twice that when bidirectional.
        bidirectional: whether a second LSTM reads backwards.
        dropout: rate on the word vectors.
        embeddings: what the word vectors start from; see `word_embedding`.

    Returns:
        Functional model to tokens (B, L, D) and the mask (B, L).
    """
    sizes = (embedding_dim, hidden_dim, dropout)
    return _encoder("lstm", name, modality, bidirectional, embeddings, *sizes)


def text_bilstm(name: str, modality: Text, **arguments: Any) -> keras.Model:
    """`text_lstm` that reads both ways (Graves & Schmidhuber 2005); the same arguments."""
    return text_lstm(name, modality, **{"bidirectional": True, **arguments})


def text_gru(
    name: str,
    modality: Text,
    *,
    embedding_dim: int = 64,
    hidden_dim: int = 64,
    bidirectional: bool = False,
    dropout: float = 0.0,
    embeddings: Any = None,
) -> keras.Model:
    """Embedding, then a gated recurrent unit (Cho et al. 2014) that skips padding.

    The reset gate acts after the product with the state, with a bias of its own, as in cuDNN.
    Arguments and return as of `text_lstm`.
    """
    sizes = (embedding_dim, hidden_dim, dropout)
    return _encoder("gru", name, modality, bidirectional, embeddings, *sizes)


def _encoder(
    kind: str,
    name: str,
    modality: Text,
    bidirectional: bool,
    embeddings: Any,
    embedding_dim: int,
    hidden_dim: int,
    dropout: float,
) -> keras.Model:
    inputs, ids, mask = begin(name, modality)
    x = word_embedding(name, modality, ids, embedding_dim, embeddings)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    layer = recurrent(kind, hidden_dim, bidirectional, name)
    return end(name, kind, inputs, layer(x, mask=mask), mask)
