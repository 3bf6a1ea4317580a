"""Sentences: UTF-8 in, token ids out."""

import os
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Text
from mmkeras.data.columns import Column, unique
from mmkeras.data.pretrained_tokenizer import PretrainedTokenizer
from mmkeras.data.sources import Rows, missing
from mmkeras.data.vocabulary import learn, split_words, valid_utf8


def column(name: str, modality: Text, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns the texts."""
    cells = rows.column(source)
    return unique("raw", [b"" if missing(c) else _encoded(c) for c in cells])


def _encoded(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode("utf-8")


def adapt(modality: Text, column: Column) -> Text:
    """Returns the modality with the vocabulary of the rows."""
    texts = [column.items[i] for i in column.index]
    return modality.replace(vocabulary=learn(texts, modality.tokenizer, modality.vocabulary_size))


class Decoder(tf.Module):
    """UTF-8 (B,) -> int32 ids (B, L), bool (B, L). Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, modality: Text, vocabulary_file: str | os.PathLike | None = None) -> None:
        """Makes the lookup.

        Args:
            modality: an adapted spec.
            vocabulary_file: one token per line; with it the table of words is read from this file,
                which a SavedModel then keeps among its assets.
        """
        super().__init__()
        self.modality = modality
        if isinstance(modality.tokenizer, Mapping):
            self.tokenizer = PretrainedTokenizer(modality)
        elif modality.tokenizer == "wordpiece":
            self.tokenizer = _wordpiece(modality)
        else:
            self.table = tf.lookup.StaticHashTable(self._words(vocabulary_file), default_value=1)

    def _words(self, vocabulary_file: str | os.PathLike | None) -> Any:
        if vocabulary_file is not None:
            lookup = tf.lookup.TextFileIndex
            return tf.lookup.TextFileInitializer(
                os.fspath(vocabulary_file),
                tf.string,
                lookup.WHOLE_LINE,
                tf.int64,
                lookup.LINE_NUMBER,
            )
        words = self.modality.vocabulary
        return tf.lookup.KeyValueTensorInitializer(
            tf.constant(words), tf.range(len(words), dtype=tf.int64)
        )

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Tokenizes a batch."""
        if self.modality.tokenizer != "words":
            ids = self.tokenizer.tokenize(valid_utf8(raw))
        else:
            words = split_words(raw)
            ids = tf.ragged.map_flat_values(self.table.lookup, words)
        ids = tf.cast(ids, tf.int32)
        length = self.modality.length
        value = ids.to_tensor(shape=(None, length))  # cuts and pads with 0
        mask = tf.sequence_mask(tf.minimum(ids.row_lengths(), length), length)
        return tf.ensure_shape(value, (None, length)), tf.ensure_shape(mask, (None, length))


def _wordpiece(modality: Text) -> Any:
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            "tokenizer='wordpiece' needs tensorflow-text: pip install tensorflow-text."
        ) from error
    return tensorflow_text.FastBertTokenizer(
        list(modality.vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )
