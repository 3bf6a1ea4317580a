"""Word embeddings, and word vectors of GloVe or word2vec text files to start them with."""

import gzip
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mmkeras.core import Text, checks


def load_vectors(
    path: str | os.PathLike, vocabulary: Sequence[str], dim: int, *, seed: int = 0
) -> np.ndarray:
    """Reads the vectors of a vocabulary from a GloVe or word2vec text file.

    Every line is a word and `dim` numbers, separated by spaces; a first line of two whole numbers
    (word2vec's header) is passed over. A name that ends in .gz is unpacked. Only the words of the
    vocabulary are kept in memory. The words of the file are compared as they are (`mk.Text`
    lower-cases). Words that the file lacks get normal noise of the spread of those found
    (0.05 where none is), drawn from the seed and their place in the vocabulary.

    Args:
        path: the file, UTF-8.
        vocabulary: tokens by id, `modality.vocabulary`.
        dim: numbers per word.
        seed: of the words that are not there.

    Returns:
        float32 (len(vocabulary), dim).

    Raises:
        ValueError: the file holds vectors of another dimension, or a line is damaged.
    """
    dim = checks.whole("dim", dim)
    where = {word: row for row, word in enumerate(vocabulary)}
    table = np.random.default_rng(seed).standard_normal((len(where), dim)).astype("float32")
    found = np.zeros(len(where), bool)
    opened = gzip.open if os.fspath(path).endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip("\r\n ").split(" ")
            if number == 1:
                if len(parts) == 2 and all(part.isdecimal() for part in parts):
                    _check_dim(path, number, int(parts[1]), dim)
                    continue
                _check_dim(path, number, len(parts) - 1, dim)
            word = " ".join(parts[:-dim])  # a few words of GloVe hold spaces
            if word in where:
                table[where[word]], found[where[word]] = _numbers(path, number, parts[-dim:]), True
            elif len(parts) <= dim:
                _check_dim(path, number, len(parts) - 1, dim)
    spread = float(table[found].std()) if found.any() else 0.05
    table[~found] *= spread
    return table


def _check_dim(path: Any, line: int, held: int, dim: int) -> None:
    if held != dim:
        raise ValueError(
            f"The vectors of a file must have the dimension of the embedding. Received: {held} "
            f"numbers in line {line} of {str(path)!r}, dim={dim}. Set the encoder's width to "
            f"{held} (embedding_dim, or hidden_dim of a transformer), or take another file."
        )


def _numbers(path: Any, line: int, parts: list[str]) -> np.ndarray:
    try:
        return np.array(parts, "float32")
    except ValueError as error:
        raise ValueError(
            f"Every line must hold a word and its numbers. Received: line {line} of "
            f"{str(path)!r}: {error}. Correct the line, or fetch the file again."
        ) from error


def word_embedding(
    name: str, modality: Text, ids: Any, dim: int, embeddings: str | os.PathLike | Any = None
) -> Any:
    """Returns the embedded ids (B, L, dim).

    Args:
        name: of the modality.
        modality: an adapted `Text`.
        ids: int32 (B, L).
        dim: width of the vectors.
        embeddings: what they start from: a file for `load_vectors`, an array (vocabulary, dim),
            or None for random ones. They train with the rest, and are saved with the model.
    """
    count = len(modality.vocabulary)
    layer = keras.layers.Embedding(count, dim, name=f"{name}_embedding")
    x = layer(ids)
    if embeddings is None:
        return x
    if isinstance(embeddings, str | os.PathLike):
        embeddings = load_vectors(embeddings, modality.vocabulary, dim)
    if np.shape(embeddings) != (count, dim):
        raise ValueError(
            f"`embeddings` of {name!r} must be a file or an array of shape {(count, dim)}. "
            f"Received: shape {np.shape(embeddings)}. Make it with mk.encoders.load_vectors("
            "path, modality.vocabulary, dim)."
        )
    layer.set_weights([np.asarray(embeddings, "float32")])
    return x
