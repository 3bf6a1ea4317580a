"""Word vectors and a bag of words."""

from typing import Any

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.word_vectors import word_embedding
from mmkeras.layers import MeanToken

VARIANTS = {
    "small": {"embedding_dim": 64, "hidden_dim": 64, "num_layers": 1},
    "dan": {"embedding_dim": 300, "hidden_dim": 300, "num_layers": 3},
}


def text_bow(
    name: str,
    modality: Text,
    *,
    variant: str = "small",
    dropout: float = 0.0,
    embeddings: Any = None,
    **sizes: Any,
) -> keras.Model:
    """The mean of the word vectors, then dense layers (Iyyer et al. 2015).

    Deviations: ReLU as its non-linearity; words are dropped by `augment={"word_dropout": {}}` of
    the spec.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        variant: a key of `VARIANTS`; "dan" has the paper's sizes.
        dropout: rate on the mean.
        embeddings: what the word vectors start from; see `word_embedding`.
        **sizes: in place of the variant's: `embedding_dim`, `hidden_dim` (D), `num_layers`.

    Returns:
        Functional model to tokens (B, 1, D) and the mask (B, 1).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    inputs, ids, mask = begin(name, modality)
    x = word_embedding(name, modality, ids, size["embedding_dim"], embeddings)
    x, mask = MeanToken(name=f"{name}_mean")(x, mask)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    for i in range(size["num_layers"]):
        x = keras.layers.Dense(size["hidden_dim"], activation="relu", name=f"{name}_dense{i}")(x)
    return end(name, "bow", inputs, x, mask)
