"""Sentences: UTF-8 in, token ids out."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tensorflow as tf

from mmkeras.core import Text
from mmkeras.data.augment import made
from mmkeras.data.augment_text import character_noise
from mmkeras.data.columns import Column, unique
from mmkeras.data.draws import Draws
from mmkeras.data.pretrained_tokenizer import PretrainedTokenizer
from mmkeras.data.sources import Rows, missing
from mmkeras.data.vocabulary import (
    is_utf8,
    learn,
    split_characters,
    split_words,
    valid_utf8,
)


def column(name: str, modality: Text, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns the texts."""
    cells = rows.column(source)
    made = unique("raw", [b"" if missing(c) else _encoded(c) for c in cells])
    return replace(made, faults=_faults(made.items, modality.max_bytes))


def _faults(items: Any, limit: int) -> dict[int, str]:
    found = {}
    for item, text in enumerate(items):
        if len(text) > limit:
            found[item] = (
                f"must have at most {limit} bytes, as `max_bytes` declares. Received: {len(text)}"
            )
            continue
        try:
            text.decode("utf-8")
        except UnicodeDecodeError as error:
            found[item] = f"must be UTF-8. Received: {text[:40]!r}: {error.reason}"
    return found


def _encoded(cell: Any) -> bytes:
    return cell if isinstance(cell, bytes) else str(cell).encode("utf-8")


def adapt(modality: Text, column: Column) -> Text:
    """Returns the modality with the vocabulary of the rows."""
    texts = [column.items[i] for i in column.index]
    special = modality.special
    size = modality.vocabulary_size - len(special) + 2
    learnt = learn(texts, modality.tokenizer, size)[2:]
    return modality.replace(vocabulary=(*special, *learnt))


class Decoder(tf.Module):
    """UTF-8 (B,) -> int32 ids (B, L), bool (B, L). Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, modality: Text, vocabulary_file: str | os.PathLike | None = None) -> None:
        """Makes the lookup.

        Args:
            modality: an adapted spec.
            vocabulary_file: one token per line; with it the table of words or characters is read
                from this file, which a SavedModel then keeps among its assets.
        """
        super().__init__()
        self.modality = modality
        self.noise = None
        if "character_noise" in modality.augment:
            self.noise = made(character_noise, modality, "character_noise")
        if isinstance(modality.tokenizer, Mapping):
            self.tokenizer = PretrainedTokenizer(modality)
        elif modality.tokenizer == "wordpiece":
            self.tokenizer = _wordpiece(modality)
        elif modality.tokenizer != "bytes":
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

    def broken(self, raw: Any) -> Any:
        """(B,) whether bytes are not UTF-8, or more than the spec's limit."""
        long = tf.strings.length(raw) > self.modality.max_bytes
        return long | ~is_utf8(tf.where(long, "", raw))

    def __call__(self, raw: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Tokenizes a batch; with draws, after the character noise that the spec declares."""
        if draws is not None and self.noise is not None:
            raw = self.noise(raw, draws)
        ids = self._ids(raw) if self.modality.segments == 1 else self._segments(raw)
        ids, length = tf.cast(ids, tf.int32), self.modality.length
        value = ids.to_tensor(shape=(None, length))  # cuts and pads with 0
        mask = tf.sequence_mask(tf.minimum(ids.row_lengths(), length), length)
        return tf.ensure_shape(value, (None, length)), tf.ensure_shape(mask, (None, length))

    def _ids(self, raw: Any) -> Any:
        """Ragged ids (B, None) of texts."""
        kind = self.modality.tokenizer
        if kind == "wordpiece" or isinstance(kind, Mapping):
            return self.tokenizer.tokenize(valid_utf8(raw))
        if kind == "bytes":
            first = len(self.modality.special)
            return tf.ragged.map_flat_values(
                lambda b: (
                    tf.cast(tf.io.decode_raw(b, tf.uint8, fixed_length=1)[:, 0], tf.int32) + first
                ),
                tf.strings.bytes_split(raw),
            )
        split = split_characters if kind == "characters" else split_words
        return tf.ragged.map_flat_values(self.table.lookup, split(raw))

    def _segments(self, raw: Any) -> Any:
        """Ragged ids of texts with segments: each ends with "[SEP]"; no token, no end."""
        parts = tf.strings.split(raw, "\t", maxsplit=self.modality.segments - 1)
        ids = tf.cast(self._ids(parts.flat_values), tf.int32)
        ends = tf.fill([tf.shape(parts.flat_values)[0], 1], 2)
        ended = tf.RaggedTensor.from_row_splits(tf.concat([ids, ends], axis=1), parts.row_splits)
        joined = ended.merge_dims(1, 2)
        some = joined.row_lengths() > parts.row_lengths()
        lengths = tf.where(some, joined.row_lengths(), 0)
        kept = tf.repeat(some, joined.row_lengths())
        return tf.RaggedTensor.from_row_lengths(tf.boolean_mask(joined.flat_values, kept), lengths)


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
