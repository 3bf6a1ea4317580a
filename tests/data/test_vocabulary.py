"""What is learnt from the training rows: words, word pieces, means and scales."""

from collections import Counter

import numpy as np
import pytest

import mmkeras as mk
from mmkeras.core import Text, Vector
from tests.core.errors import says
from tests.data import files

SENTENCES = [
    "the red circle is left of the blue circle",
    "is the red square above the blue square?",
    "Circles and squares: red, blue.",
    "",
    "É é zebra",
]


def learnt(train, spec, **kwargs):
    return mk.data.table({"t": train}, {"t": spec}, **kwargs)


def test_words_by_frequency_then_alphabet():
    data = learnt(SENTENCES * 2, Text(length=6))
    vocabulary = data.modalities["t"].vocabulary
    words = " ".join(SENTENCES).lower().replace("?", "").translate({58: " ", 44: " ", 46: " "})
    counts = Counter(words.split())
    expected = sorted(counts, key=lambda w: (-counts[w], w.encode()))
    assert vocabulary == ("[PAD]", "[UNK]", *expected)
    assert data.modalities["t"].adapted


def test_the_vocabulary_size_is_a_limit():
    vocabulary = learnt(SENTENCES, Text(vocabulary_size=5)).modalities["t"].vocabulary
    assert vocabulary == ("[PAD]", "[UNK]", "the", "blue", "red")
    assert learnt(["", None], Text()).modalities["t"].vocabulary == ("[PAD]", "[UNK]")


def test_a_text_counts_as_often_as_it_occurs():
    data = learnt(["b", "a", "b", "c", "b", "c"], Text(length=1))
    assert data.modalities["t"].vocabulary[2:] == ("b", "c", "a")


def test_the_vocabulary_comes_from_training_rows_only():
    data = learnt(["a b"], Text(length=3), valid={"t": ["b c c c"]}, test={"t": ["d d d a"]})
    assert data.modalities["t"].vocabulary == ("[PAD]", "[UNK]", "a", "b")
    ((x,),) = files.numpy(data.valid(1))
    assert x["t"].tolist() == [[3, 1, 1]]
    ((x,),) = files.numpy(data.test(1))
    assert x["t"].tolist() == [[1, 1, 1]]
    fraction = learnt([f"w{i}" for i in range(20)], Text(length=1), valid=0.5)
    assert len(fraction.modalities["t"].vocabulary) == 2 + 10
    ((x,),) = files.numpy(fraction.valid(20))
    assert set(x["t"].ravel()) == {1}  # all unknown


def test_a_given_vocabulary_is_kept():
    spec = Text(length=2, vocabulary=("[PAD]", "[UNK]", "zebra"))
    data = learnt(["a", "Zebra"], spec)
    assert data.modalities["t"] is spec
    ((x,),) = files.numpy(data.batches("train", 2))
    assert x["t"].tolist() == [[1, 0], [2, 0]]


# Word pieces


@pytest.fixture(scope="module")
def pieces():
    texts = [*SENTENCES, "circling squarely", "caf\ufffd au lait"] * 5
    return texts, learnt(texts, Text(length=24, tokenizer="wordpiece", vocabulary_size=80))


def split(word, vocabulary):
    """WordPiece: the longest known beginning, again and again; None if there is none."""
    out, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"]
        out.append(piece)
        start = end
    return out


def test_word_pieces_are_learnt_and_used(pieces):
    texts, data = pieces
    vocabulary = data.modalities["t"].vocabulary
    assert vocabulary[:2] == ("[PAD]", "[UNK]")
    assert 30 < len(vocabulary) <= 80 and len(set(vocabulary)) == len(vocabulary)
    assert "the" in vocabulary and any(token.startswith("##") for token in vocabulary)
    ((x,),) = files.numpy(data.take("train", np.arange(7)).batches("train", 7))
    for row in (0, 5):
        got = [vocabulary[i] for i in x["t"][row][x["t_mask"][row]]]
        words = texts[row].lower().split()
        assert got == [piece for word in words for piece in split(word, vocabulary)]
        assert "[UNK]" not in got and not x["t"][row][~x["t_mask"][row]].any()
    got = [vocabulary[i] for i in x["t"][4][x["t_mask"][4]]]
    assert got[:2] == ["e", "e"]  # lower-cased, without accents
    assert not x["t_mask"][3].any()  # the empty text
    assert x["t_mask"][6].any()  # the broken one


def test_word_pieces_of_new_words(pieces):
    _, data = pieces
    spec = data.modalities["t"]
    value, mask = mk.data.decoder(spec)(np.array([b"redcircle squaredle", "日本".encode(), b""]))
    got = [spec.vocabulary[i] for i in value[0].numpy()[mask[0].numpy()]]
    expected = [p for w in ("redcircle", "squaredle") for p in split(w, spec.vocabulary)]
    assert got == expected and len(got) > 2
    assert set(value[1].numpy()[mask[1].numpy()]) == {1}
    assert not mask[2].numpy().any()


def test_word_pieces_are_cut(pieces):
    _, data = pieces
    spec = data.modalities["t"]
    whole, _ = mk.data.decoder(spec)(np.array([SENTENCES[0].encode()]))
    value, mask = mk.data.decoder(spec.replace(length=3))(np.array([SENTENCES[0].encode()]))
    assert value.numpy().tolist() == whole.numpy()[:, :3].tolist() and mask.numpy().all()


def test_word_pieces_need_room_for_every_character():
    spec = Text(tokenizer="wordpiece", vocabulary_size=6)
    with says(ValueError, "room for every character", "vocabulary_size=6", "Raise it"):
        learnt(["hello world"] * 5, spec)
    assert learnt(["", None], spec).modalities["t"].vocabulary == ("[PAD]", "[UNK]")


# Numbers


def test_mean_and_scale_come_from_complete_training_rows():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 3, (9, 3)).astype("float32")
    values[:, 2] = 7.0
    rows = [*values, None]
    data = mk.data.table({"v": rows}, {"v": Vector(size=3)}, valid={"v": values + 100})
    spec = data.modalities["v"]
    exact = values.astype("float64")
    np.testing.assert_allclose(spec.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(spec.scale[:2], exact.std(axis=0)[:2], rtol=1e-12)
    assert spec.scale[2] == 1.0  # a constant column
    ((x,),) = files.numpy(data.batches("train", 10))
    np.testing.assert_allclose(x["v"][:9].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x["v"][:9, :2].std(axis=0), 1, rtol=1e-6)
    assert not x["v"][9].any()


def test_a_repeated_row_counts_as_often_as_it_occurs():
    data = mk.data.table({"v": [1.0, 1.0, 1.0, 5.0]}, {"v": Vector()})
    assert data.modalities["v"].mean == (2.0,)


def test_a_vector_without_a_complete_row_is_refused():
    with says(ValueError, "at least one complete training row", "none", "`normalize=False`"):
        mk.data.table({"v": [None, None]}, {"v": Vector(size=2)})


def test_what_is_given_of_the_statistics_is_kept():
    columns = {"v": [1.0, 5.0]}
    spec = mk.data.table(columns, {"v": Vector(mean=(9.0,))}).modalities["v"]
    assert spec.mean == (9.0,) and spec.scale == (2.0,)
    spec = mk.data.table(columns, {"v": Vector(scale=(9.0,))}).modalities["v"]
    assert spec.mean == (3.0,) and spec.scale == (9.0,)
