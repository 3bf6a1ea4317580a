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
    inputs, ids, mask = begin(name, modality)
    x = _words(name, modality, ids, embedding_dim, dropout, embeddings)
    layer = recurrent("lstm", hidden_dim, bidirectional, name)
    return end(name, "lstm", inputs, layer(x, mask=mask), mask)


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
    inputs, ids, mask = begin(name, modality)
    x = _words(name, modality, ids, embedding_dim, dropout, embeddings)
    layer = recurrent("gru", hidden_dim, bidirectional, name)
    return end(name, "gru", inputs, layer(x, mask=mask), mask)


def _words(name: str, modality: Text, ids: Any, dim: int, dropout: float, embeddings: Any) -> Any:
    """Word vectors, some of their numbers dropped while training."""
    x = word_embedding(name, modality, ids, dim, embeddings)
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x
