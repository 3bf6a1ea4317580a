"""Learns what a modality needs from the training rows: vocabularies, means and scales."""

from collections import Counter

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column
from mmkeras.data.decode import split_words, valid_utf8

_CHUNK = 4096


def adapt(modality: Modality, column: Column) -> Modality:
    """Returns the modality with everything learnt that was still open."""
    if modality.adapted:
        return modality
    if modality.kind == "vector":
        return _adapt_vector(modality, column)
    texts = [column.items[i] for i in column.index]
    learn = _word_pieces if modality.tokenizer == "wordpiece" else _words
    return modality.replace(vocabulary=learn(texts, modality.vocabulary_size))


def _adapt_vector(modality: Modality, column: Column) -> Modality:
    values = column.items[column.index].astype("float64")
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        raise ValueError(
            "A Vector needs at least one complete training row to learn its mean and scale. "
            "Received: none. Give `mean=` and `scale=`, or `normalize=False`."
        )
    scale = values.std(axis=0)
    return modality.replace(
        mean=modality.mean or tuple(values.mean(axis=0)),
        scale=modality.scale or tuple(np.where(scale > 1e-12, scale, 1.0)),
    )


def _words(texts: list[bytes], size: int) -> tuple[str, ...]:
    """The most frequent words, ties in alphabetical order."""
    counts: Counter = Counter()
    for start in range(0, len(texts), _CHUNK):
        counts.update(split_words(tf.constant(texts[start : start + _CHUNK])).flat_values.numpy())
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ("[PAD]", "[UNK]", *(word.decode("utf-8") for word, _ in ranked[: size - 2]))


def _word_pieces(texts: list[bytes], size: int) -> tuple[str, ...]:
    """A WordPiece vocabulary by tensorflow_text's learner."""
    from tensorflow_text.tools.wordpiece_vocab import bert_vocab_from_dataset

    special = ["[PAD]", "[UNK]"]
    if not any(text.strip() for text in texts):
        return tuple(special)
    pieces = bert_vocab_from_dataset.bert_vocab_from_dataset(
        tf.data.Dataset.from_tensor_slices(texts).batch(_CHUNK).map(valid_utf8),
        vocab_size=size,
        reserved_tokens=special,
        bert_tokenizer_params={"lower_case": True},
        learn_params={},
    )
    if len(pieces) > size:
        raise ValueError(
            "`vocabulary_size` must have room for every character, alone and within a word. "
            f"Received: vocabulary_size={size}; the smallest vocabulary that was found has "
            f"{len(pieces)}. Raise it."
        )
    return tuple(pieces)
