"""Characters, bytes and segments: ids and masks against plain Python, learning, files."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Text
from mmkeras.data import decoder
from tests.data import files


def run(spec, raw, **kwargs):
    value, mask = tf.function(decoder(spec, **kwargs))(tf.constant(raw))
    assert value.dtype == tf.int32 and value.shape[1:] == mask.shape[1:] == spec.shape
    return value.numpy(), mask.numpy()


def padded(rows, length):
    ids = np.zeros((len(rows), length), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row[:length]
    return ids, np.arange(length) < np.array([[len(row)] for row in rows])


def test_bytes_need_nothing_learnt():
    raw = ["aB", "é", "", "abcdefg", b"\x00\xff"]
    spec = Text(length=4, tokenizer="bytes")
    assert spec.adapted and len(spec.vocabulary) == 258 and spec.vocabulary[2 + 65] == "<41>"
    rows = [list(b if isinstance(b, bytes) else b.encode()) for b in raw]
    files.same(run(spec, raw), padded([[b + 2 for b in row] for row in rows], 4))
    assert run(spec, [""])[1].tolist() == [[False] * 4]


def test_characters_are_code_points(tmp_path):
    raw = ["Aa\tb", "日本 é", "", "zz🙂", "\n"]
    vocabulary = ("[PAD]", "[UNK]", " ", "a", "A", "日", "🙂", "z")
    spec = Text(length=5, tokenizer="characters", vocabulary=vocabulary)
    expected = padded([[4, 3, 2, 1], [5, 1, 2, 1], [], [7, 7, 6], [2]], 5)
    files.same(run(spec, raw), expected)
    path = tmp_path / "vocabulary.txt"
    path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    files.same(run(spec, raw, vocabulary_file=path), expected)


def test_characters_are_learnt_by_frequency():
    data = mk.data.table({"t": ["abca b", "b\u2028b", None]}, {"t": Text(tokenizer="characters")})
    assert data.modalities["t"].vocabulary == ("[PAD]", "[UNK]", "b", " ", "a", "c")


@pytest.mark.parametrize("tokenizer", ["words", "characters", "bytes", "wordpiece"])
def test_segments_end_with_a_separator(tokenizer):
    letters = ("[PAD]", "[UNK]", "[SEP]", "a", "b", "c", "##a")
    first = 3 + ord("a") if tokenizer == "bytes" else 3
    spec = Text(
        length=6,
        tokenizer=tokenizer,
        vocabulary=None if tokenizer == "bytes" else letters,
        segments=2,
    )
    a, b, c = first, first + 1, first + 2
    raw = ["a\tb", "a", "", "\tc", "\t"]
    rows = [[a, 2, b, 2], [a, 2], [], [2, c, 2], []]
    files.same(run(spec, raw), padded(rows, 6))
    # What follows the last separator that counts belongs to the last segment.
    if tokenizer == "words":
        files.same(
            run(spec, ["a\tb\tc", "a b\tc a b c"]), padded([[a, 2, b, c, 2], [a, b, 2, c, a, b]], 6)
        )


def test_segments_in_the_pipeline_and_served(tmp_path):
    rows = {"q": ["red\tis it red", "blue\tis it red", "red", None], "y": ["1", "0", "1", "0"]}
    data = mk.data.table(rows, {"q": mk.Text(length=8, segments=2)}, "y", valid=rows)
    assert data.modalities["q"].vocabulary == ("[PAD]", "[UNK]", "[SEP]", "red", "is", "it", "blue")
    model = mk.assemble(
        data.modalities,
        {"q": {"name": "transformer", "hidden_dim": 8, "num_layers": 1, "num_heads": 2}},
        "concatenation",
        {"y": mk.heads.Classifier(data.classes)},
        hidden_dim=4,
    )
    mk.export.saved_model(model, data.modalities, tmp_path / "1", signatures=("serving_default",))
    raw = data.raw("valid", range(4))
    parity = mk.export.check_parity(model, data.modalities, tmp_path / "1", raw)
    assert parity["y"] < 1e-5


def test_a_mask_token_stands_after_the_other_special_ones_and_no_text_gives_it():
    rows = {"text": ["b a a\t[MASK] c"]}
    spec = mk.Text(length=8, mask_token=True, segments=2)
    found = mk.data.table(rows, {"text": spec}).modalities["text"]
    assert found.vocabulary[:4] == ("[PAD]", "[UNK]", "[SEP]", "[MASK]")
    ids, mask = mk.data.decoder(found)(np.array(rows["text"]))
    assert np.asarray(mask)[0].sum() == 7 and 3 not in np.asarray(ids)
    ids, _ = mk.data.decoder(mk.Text(length=2, tokenizer="bytes", mask_token=True))(
        np.array(["\x02"])
    )
    assert np.asarray(ids).tolist() == [[5, 0]]
