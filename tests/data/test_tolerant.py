"""What is unreadable: in a batch of raw items, and alike in a column."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import decoder
from mmkeras.data.fingerprint import fingerprint
from mmkeras.data.tolerant import tolerant
from tests.data import files


def test_order_and_content_of_what_is_readable(rng):
    pictures = [files.encode(rng.integers(0, 256, (9, 7, 3)).astype("uint8")) for _ in range(5)]
    decode = decoder(mk.Image(size=4))
    whole, _ = decode(tf.constant(pictures))
    raw = [b"x", pictures[1], b"", pictures[3], pictures[4][:50]]
    value, mask, bad = tolerant(decode, tf.constant(raw))
    np.testing.assert_array_equal(mask, [False, True, False, True, False])
    np.testing.assert_array_equal(bad, [True, False, False, False, True])
    np.testing.assert_array_equal(value[1::2], whole[1:4:2])
    assert not value.numpy()[::2].any()
    for row, item in enumerate(raw):  # a request of one goes another way
        alone = tolerant(decode, tf.constant([item]))
        for part, together in zip(alone, (value, mask, bad), strict=True):
            np.testing.assert_array_equal(part, together[row : row + 1])
    for none in ([], [b""], [b"x"], [b"x", b"y"]):
        value, mask, bad = tolerant(decode, tf.constant(none, tf.string))
        assert value.shape == (len(none), 4, 4, 3) and not mask.numpy().any()
        np.testing.assert_array_equal(bad, [item != b"" for item in none])


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("-1.5e3", True),
        ("", True),
        (" 2 ", True),
        ("1e39", False),
        ("1e999", False),
        ("nan", False),
        ("0x1", False),
    ],
)
def test_numbers_of_a_table_are_read_as_its_column_reads_them(text, good):
    rows = {"height": ["1", "2", text]}
    spec = {"facts": mk.Table(numeric=("height",), mean=(0.0,), scale=(1.0,))}
    if good:
        data = mk.data.table(rows, spec, on_bad="mask")
    else:
        with pytest.warns(UserWarning, match="finite decimal numbers"):
            data = mk.data.table(rows, spec, on_bad="mask")
    assert list(data.bad["train"]["facts"]) == ([] if good else [3])
    bad = decoder(spec["facts"]).broken(tf.constant([[text]]))
    assert bad.numpy().tolist() == [not good]


def test_bytes_that_are_no_text_are_refused_before_training():
    rows = {"t": ["a b", b"caf\xe9", "c"]}
    with pytest.raises(ValueError, match=r"row 2 .*must be UTF-8. Received: b'caf\\xe9'"):
        mk.data.table(rows, {"t": mk.Text(length=3)})


def test_a_fingerprint_tells_rows_order_truth_and_specs(tmp_path):
    def of(texts, labels, length=3, words=("[PAD]", "[UNK]", "a")):
        spec = {"t": mk.Text(length=length, vocabulary=words)}
        return fingerprint(mk.data.table({"t": texts, "y": labels}, spec, "y"))

    first = of(["a", "b", "a"], ["u", "v", "u"])
    assert first == of(["a", "b", "a"], ["u", "v", "u"]) and len(first) == 64
    others = {
        of(["b", "a", "a"], ["v", "u", "u"]),
        of(["a", "b", "c"], ["u", "v", "u"]),
        of(["a", "b", "a"], ["v", "u", "v"]),
        of(["a", "b", "a"], ["u", "v", "u"], length=4),
    }
    assert len(others | {first}) == 5
    data = mk.data.table({"t": ["a", "b"], "y": ["u", "v"]}, {"t": mk.Text(length=2)}, "y")
    mk.data.write_shards(data, tmp_path / "shards")
    assert fingerprint(mk.data.shards(tmp_path / "shards")) == fingerprint(
        mk.data.shards(tmp_path / "shards")
    )
