"""Augmentation of texts: on token ids, and, before the text is cut into tokens, on characters."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Text, checks
from mmkeras.data.draws import Draws


def _words(modality: Text, value: Any, mask: Any) -> Any:
    """True at tokens that may change: real, and no separator of segments."""
    return mask & (value >= len(modality.special)) if modality.segments > 1 else mask


def _word_dropout(modality: Text, rate: float = 0.1) -> Callable:
    """Makes each token unknown with probability `rate` (Bowman et al. 2016)."""
    checks.real("rate", rate, 0.0, 1.0)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drop = draws.uniform(tf.shape(value)[0], modality.length) < rate
        return tf.where(drop & _words(modality, value, mask), tf.ones_like(value), value)

    return apply


def _swap(modality: Text, rate: float = 0.1) -> Callable:
    """Exchanges neighbours: each pair with probability `rate`, a token in one pair at most."""
    checks.real("rate", rate, 0.0, 1.0)
    length = modality.length

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], length + 1)
        offset = tf.cast(drawn[:, :1] < 0.5, tf.int32)  # pairs begin at even or at odd places
        place = tf.range(length)[None, :]
        left = place - (place + offset) % 2
        other = tf.clip_by_value(2 * left + 1 - place, 0, length - 1)
        inside = (left >= 0) & (left + 1 < length)
        chosen = tf.gather(drawn[:, 1:], tf.maximum(left, 0), batch_dims=1) < rate
        free = _words(modality, value, mask)
        both = free & tf.gather(free, other, batch_dims=1) & inside & chosen
        return tf.where(both, tf.gather(value, other, batch_dims=1), value)

    return apply


def _synonyms(
    modality: Text, table: Mapping[str, list[str]] | None = None, rate: float = 0.1
) -> Callable:
    """Replaces each token of `table` by one of its synonyms with probability `rate`.

    `table` maps a token to tokens; what is not in the vocabulary is passed over.
    """
    checks.real("rate", rate, 0.0, 1.0)
    if not isinstance(table, Mapping) or not table:
        raise ValueError(f"`table` must be a dict of token -> list of tokens, received {table!r}")
    ids = {token: number for number, token in enumerate(modality.vocabulary)}
    lists = {
        ids[word]: [ids[w] for w in others if w in ids]
        for word, others in table.items()
        if word in ids
    }
    widest = max((len(others) for others in lists.values()), default=0) or 1
    rows = [lists.get(number) or [number] for number in range(len(ids))]
    counts = tf.constant([len(row) for row in rows])
    choices = tf.constant([row + row[:1] * (widest - len(row)) for row in rows], tf.int32)

    def apply(value: Any, mask: Any, draws: Draws) -> Any:
        drawn = draws.uniform(tf.shape(value)[0], modality.length, 2)
        count = tf.gather(counts, value)
        which = tf.cast(drawn[..., 1] * tf.cast(count, tf.float32), tf.int32)
        found = tf.gather(tf.gather(choices, value), which, batch_dims=2)
        return tf.where((drawn[..., 0] < rate) & _words(modality, value, mask), found, value)

    return apply


OPS: dict[str, Callable] = {
    "word_dropout": _word_dropout,
    "swap": _swap,
    "synonyms": _synonyms,
}


def character_noise(modality: Text, rate: float = 0.05) -> Callable:
    """Returns `(raw (B,), draws) -> raw`: typing errors in UTF-8 texts.

    Each character, but for white space, is with probability `rate` left out, doubled, or replaced
    by a random letter from a to z, a third each. A text of which nothing would be left stays.
    """
    checks.real("rate", rate, 0.0, 1.0)
    letters = tf.constant(list("abcdefghijklmnopqrstuvwxyz"))

    def apply(raw: Any, draws: Draws) -> Any:
        characters = tf.strings.unicode_split(raw, "UTF-8", errors="replace")
        held = characters.to_tensor("")
        batch, count = tf.shape(held)[0], tf.shape(held)[1]
        error = draws.steps(batch, count) / max(rate, 1e-9) * 3.0
        letter = tf.gather(letters, tf.cast(draws.fold(0, 1).steps(batch, count) * 26.0, tf.int32))
        fixed = tf.strings.regex_full_match(held, r"\s*")
        changed = tf.where(error < 1.0, "", tf.where(error < 2.0, held + held, letter))
        noisy = tf.where((error < 3.0) & ~fixed, changed, held)
        joined = tf.strings.reduce_join(noisy, axis=1)
        return tf.where(tf.strings.length(tf.strings.strip(joined)) > 0, joined, raw)

    return apply
