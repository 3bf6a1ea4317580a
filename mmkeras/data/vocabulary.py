"""Words and characters of texts, and vocabularies of words, characters or word pieces."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import tensorflow as tf

_CHUNK = 4096

# Every code point that UTF-8 may encode: surrogates may not stand alone.
_UTF8 = r"[\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]*"


def is_utf8(raw: Any) -> Any:
    """Bool of the shape of `raw`: whether it is UTF-8."""
    return tf.strings.regex_full_match(raw, _UTF8)


def valid_utf8(raw: Any) -> Any:
    """Replaces what is not UTF-8 by U+FFFD.

    The check is three times cheaper than the replacement, which returns valid text as it is.
    """
    return tf.cond(
        tf.reduce_all(is_utf8(raw)),
        lambda: raw,
        lambda: tf.strings.unicode_transcode(raw, "UTF-8", "UTF-8", errors="replace"),
    )


def split_words(raw: Any) -> Any:
    """Lower-cased runs of letters, marks and digits, as ragged strings (B, None)."""
    text = tf.strings.lower(valid_utf8(raw), encoding="utf-8")
    text = tf.strings.regex_replace(text, r"[^\p{L}\p{M}\p{N}]+", " ")
    return tf.strings.split(tf.strings.strip(text))


def split_characters(raw: Any) -> Any:
    """Code points, white space and controls as one space each, as ragged strings (B, None)."""
    text = tf.strings.regex_replace(valid_utf8(raw), r"[\p{Z}\p{Cc}\s]", " ")
    return tf.strings.unicode_split(text, "UTF-8")


def learn(texts: list[bytes], tokenizer: str, size: int) -> tuple[str, ...]:
    """Returns a vocabulary of at most `size` tokens, special ones included.

    Args:
        texts: UTF-8.
        tokenizer: as of `mk.Text`.
        size: largest number of tokens.
    """
    if tokenizer == "wordpiece":
        return _word_pieces(texts, size)
    return _ranked(texts, size, split_characters if tokenizer == "characters" else split_words)


def _ranked(texts: list[bytes], size: int, split: Callable) -> tuple[str, ...]:
    """The most frequent tokens, ties in alphabetical order."""
    counts: Counter = Counter()
    for start in range(0, len(texts), _CHUNK):
        counts.update(split(tf.constant(texts[start : start + _CHUNK])).flat_values.numpy())
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ("[PAD]", "[UNK]", *(token.decode("utf-8") for token, _ in ranked[: size - 2]))


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
