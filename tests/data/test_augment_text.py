"""Augmentation of text: what each op does to the words."""

import numpy as np
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Text
from mmkeras.data import augment_text
from mmkeras.data.augment import augmenter
from tests.core.errors import says
from tests.data.augmented import ARGUMENTS, TEXT_OPS, WORDS, seed


def text(tokens, **augment):
    ids = np.array([[WORDS.index(t) for t in tokens]] * 40, "int32")
    spec = Text(length=ids.shape[1], vocabulary=WORDS, augment=augment)
    return spec, ids


def test_word_dropout_and_swap_and_synonyms():
    tokens = ["w1", "w2", "w3", "w4", "[PAD]"]
    mask = np.tile(np.array(tokens) != "[PAD]", (40, 1))
    spec, ids = text(tokens, word_dropout={"rate": 0.3})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert set(np.unique(out[out != ids])) == {1} and not out[:, 4].any()
    assert 0.2 < (out[:, :4] == 1).mean() < 0.4
    spec, ids = text(tokens, swap={"rate": 0.9})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert (np.sort(out, axis=1) == np.sort(ids, axis=1)).all()  # nothing is lost
    where = np.array([[int(np.flatnonzero(row == t)[0]) for t in ids[0]] for row in out])
    assert np.abs(where - np.arange(5)).max() == 1 and not out[:, 4].any()
    assert {tuple(row[:2]) for row in out} >= {(ids[0, 1], ids[0, 0]), (ids[0, 0], ids[0, 2])}
    table = {"w1": ["w7", "w8", "nowhere"], "w2": ["nowhere"], "other": ["w1"]}
    spec, ids = text(tokens, synonyms={"rate": 1.0, "table": table})
    out = augmenter(spec)(ids, mask, seed(1)).numpy()
    assert set(out[:, 0]) == {WORDS.index("w7"), WORDS.index("w8")}
    np.testing.assert_array_equal(out[:, 1:], ids[:, 1:])
    with says(ValueError, "'synonyms'", "dict of token -> list"):
        augmenter(spec.replace(augment={"synonyms": {}}))


def test_separators_of_segments_stay(rng):
    vocabulary = (*WORDS[:2], "[SEP]", *WORDS[2:])
    augment = {op: {**ARGUMENTS[op], "rate": 1.0} for op in TEXT_OPS}
    spec = Text(length=6, vocabulary=vocabulary, segments=2, augment=augment)
    ids = np.tile(np.array([[3, 4, 2, 5, 6, 2]], "int32"), (20, 1))
    out = augmenter(spec)(ids, np.ones((20, 6), bool), seed(1)).numpy()
    assert (out[:, [2, 5]] == 2).all() and (out[:, [0, 1, 3, 4]] != 2).all()


def test_character_noise_makes_typing_errors():
    spec = Text(augment={"character_noise": {"rate": 0.3}})
    noise = augment_text.character_noise(spec, 0.3)
    raw = ["hällo wörld of words"] * 200 + ["", "  "]
    out = [t.decode() for t in noise(tf.constant(raw), seed(1)).numpy()]
    assert out[-2:] == ["", "  "] and len(set(out)) > 150
    # Expected length: a third of the errors takes a character, a third adds one.
    assert abs(np.mean([len(t) for t in out[:200]]) - 20) < 0.5
    assert {t.count(" ") for t in out[:200]} == {3}  # white space stays
    same = augment_text.character_noise(spec, 0.0)
    assert [t.decode() for t in same(tf.constant(raw), seed(1)).numpy()] == raw
    alone = augment_text.character_noise(spec, 1.0)(tf.constant(["a"] * 50), seed(1)).numpy()
    assert b"" not in alone  # a text never becomes an absent one
    with says(ValueError, "'character_noise'", "{'rate': 2}"):
        mk.data.table({"t": ["a"]}, {"t": Text(augment={"character_noise": {"rate": 2}})}).train(1)


def test_character_noise_outlives_the_cache():
    spec = Text(length=4, tokenizer="bytes", augment={"character_noise": {"rate": 0.9}})
    data = mk.data.table({"t": ["abcd"] * 8}, {"t": spec})
    for held in (data, data.cache()):
        (x,) = next(iter(held.train(8)))
        assert len(np.unique(x["t"].numpy(), axis=0)) > 3
