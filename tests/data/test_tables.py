"""Table: cells to numbers and ids, per-cell masks, what is learnt, and what is refused."""

import csv
import json

import numpy as np
import pandas
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Table, from_json, to_json
from mmkeras.data import decoder
from tests.core.errors import says
from tests.data import files

SPEC = Table(numeric=("height", "year"), categorical=("colour", "size"))
ROWS = {
    "height": [1.5, None, 2.5, 4.0],
    "year": [2001, 2001, None, 2001],
    "colour": ["red", "blue", "red", None],
    "size": [3, 4, None, 3],
    "label": ["a", "b", "a", "b"],
}
# mean and deviation of 1.5, 2.5, 4; the year is constant; sizes are "3", "4".
MEAN, SCALE = 8 / 3, np.std([1.5, 2.5, 4.0])
VALUE = np.array(
    [
        [(1.5 - MEAN) / SCALE, 0, 2, 1],
        [0, 0, 1, 2],
        [(2.5 - MEAN) / SCALE, 0, 2, 0],
        [(4.0 - MEAN) / SCALE, 0, 0, 1],
    ]
)
MASK = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 1]], bool)


def batch(data, split="train"):
    x = files.numpy(data.batches(split, 100))[0][0]
    return x["facts"], x["facts_mask"]


def sources(tmp_path):
    """The same rows as columns, DataFrame, CSV and JSONL."""
    frame = pandas.DataFrame(ROWS)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(ROWS)
        lines.writerows(zip(*ROWS.values(), strict=True))
    lines = [{k: v[i] for k, v in ROWS.items() if v[i] == v[i]} for i in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arrays = {k: np.array(v, object) for k, v in ROWS.items()}
    return ROWS, arrays, frame, tmp_path / "rows.csv", tmp_path / "rows.jsonl"


def test_every_source_gives_the_same_cells(tmp_path):
    for source in sources(tmp_path):
        data = mk.data.table(source, {"facts": SPEC}, "label")
        value, mask = batch(data)
        assert (value.dtype, mask.dtype) == (np.float32, bool)
        np.testing.assert_allclose(value, VALUE, atol=1e-6)
        np.testing.assert_array_equal(mask, MASK)
        assert not value[~mask].any()
        spec = data.modalities["facts"]
        np.testing.assert_allclose(spec.mean, (MEAN, 2001))
        np.testing.assert_allclose(spec.scale, (SCALE, 1.0))  # a constant column has scale 1
        assert spec.vocabularies == (("blue", "red"), ("3", "4"))
        assert spec.adapted and not SPEC.adapted
        assert from_json(to_json(data.modalities)) == data.modalities


def test_whole_numbers_are_one_category_however_they_come():
    cells = [3, 3.0, np.float32(3), np.int8(3), "3", b"3", " 3 ", True, 2.5]
    data = mk.data.table({"c": cells}, {"facts": Table(categorical=("c",))})
    assert data.modalities["facts"].vocabularies == (("2.5", "3", "True"),)
    assert batch(data)[0][:, 0].tolist() == [2] * 7 + [3, 1]
    data = mk.data.table({"c": [True, False]}, {"facts": Table(numeric=("c",))})
    assert data.modalities["facts"].mean == (0.5,)


def test_learnt_from_the_training_rows_alone_and_the_unknown_have_a_bucket():
    held = {**ROWS, "height": [1e6] * 4, "colour": ["green", "red", "Red", " red "]}
    data = mk.data.table(ROWS, {"facts": SPEC}, "label", valid=held)
    assert data.modalities == mk.data.table(ROWS, {"facts": SPEC}, "label").modalities
    value, mask = batch(data, "valid")
    assert value[:, 2].tolist() == [0, 2, 0, 2] and mask[:, 2].all()


def test_rare_categories_are_unknown():
    colours = ["c", "b", "b", "a", "a", "a"]
    data = mk.data.table(
        {"colour": colours}, {"facts": Table(categorical=("colour",), vocabulary_size=3)}
    )
    assert data.modalities["facts"].vocabularies == (("a", "b"),)
    assert data.modalities["facts"].sizes == (3,)
    assert batch(data)[0][:, 0].tolist() == [0, 2, 2, 1, 1, 1]


def test_columns_map_and_two_tables_share_a_source():
    specs = {"one": Table(numeric=("height",)), "other": Table(categorical=("kind",))}
    data = mk.data.table(ROWS, specs, columns={"other": {"kind": "colour"}})
    assert data.modalities["other"].vocabularies == (("blue", "red"),)


def test_a_large_offset_costs_no_precision():
    numbers = [1.6e9 + i / 4 for i in range(5)]
    data = mk.data.table({"t": numbers}, {"facts": Table(numeric=("t",))})
    expected = (np.arange(5) - 2) / np.std(np.arange(5))
    np.testing.assert_allclose(batch(data)[0][:, 0], expected, atol=1e-6)


def test_equal_numbers_are_constant_whatever_their_size():
    for number in (0.1, 1e7 + 0.1, -3e-20):
        data = mk.data.table({"t": [number] * 7}, {"facts": Table(numeric=("t",))})
        assert data.modalities["facts"].scale == (1.0,)
        np.testing.assert_allclose(batch(data)[0], 0.0, atol=1e-6)


def test_raw_and_decoder_and_cache_agree(tmp_path):
    data = mk.data.table(ROWS, {"facts": SPEC}, "label")
    raw = data.raw("train", [0, 2])["facts"]
    assert raw.tolist() == [[b"1.5", b"2001", b"red", b"3"], [b"2.5", b"", b"red", b""]]
    decode = decoder(data.modalities["facts"])
    value, mask = decode(tf.constant(raw.tolist()))
    np.testing.assert_array_equal(value, batch(data)[0][[0, 2]])
    np.testing.assert_array_equal(mask, MASK[[0, 2]])
    for cached in (data.cache(), data.cache(tmp_path), data.cache(tmp_path)):
        files.same(batch(cached), batch(data))
        assert cached.raw("train", [0, 2])["facts"].tolist() == raw.tolist()
    assert len(list(tmp_path.iterdir())) == 1  # found again


def test_take_and_without():
    data = mk.data.table(ROWS, {"facts": SPEC}, "label")
    value, mask = batch(data)
    some = data.take("train", np.array([3, 1]))
    files.same(batch(some), (value[[3, 1]], mask[[3, 1]]))
    for start in (data, data.cache()):
        absent = start.without("train", "facts", [1])
        assert batch(absent)[1].any(axis=1).tolist() == [True, False, True, True]
        files.same(batch(absent)[0][[0, 2, 3]], value[[0, 2, 3]])


def test_check_counts_absent_rows_and_duplicates():
    rows = {k: [*v, None] for k, v in ROWS.items()} | {"label": list("ababa")}
    report = mk.data.check(rows, {"facts": SPEC}, "label", valid=ROWS)
    assert report.missing == {"train": {"facts": 1}, "valid": {"facts": 0}}
    assert report.duplicates[("train", "valid")] == {"facts": 4, "row": 4}
    assert report.shapes["facts"] == ((4,), "float32")


BAD = {**ROWS, "height": [1.5, "tall", 2.5, 4]}


def test_a_cell_that_is_no_number_is_named():
    for text in ("tall", "nan", "inf", "0x10", "1e99", "1,5"):
        rows = {**ROWS, "height": [1.5, text, 2.5, 4]}
        with says(
            ValueError,
            "row 2 of the given columns, column 'facts'",
            "the numeric column 'height' must hold finite decimal numbers",
            f"Received: '{text}'",
            "on_bad='mask'",
        ):
            mk.data.table(rows, {"facts": SPEC}, "label")
    with pytest.warns(UserWarning, match="1 of 4 items of 'facts'"):
        data = mk.data.table(BAD, {"facts": SPEC}, "label", on_bad="mask")
    assert list(data.bad["train"]["facts"]) == [2]
    assert batch(data)[1].any(axis=1).tolist() == [True, False, True, True]
    report = mk.data.check(BAD, {"facts": SPEC}, "label")
    assert list(report.unreadable["train"]["facts"]) == [2]


def test_a_request_with_a_cell_that_is_no_number_is_refused():
    decode = decoder(mk.data.table(ROWS, {"facts": SPEC}).modalities["facts"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="columns height, year must hold dec"):
        decode(tf.constant([["tall", "1", "red", "3"]]))
    value, mask = decode(tf.constant([[" 1.5 ", "", "pink", " 3"], [""] * 4]))
    np.testing.assert_allclose(value, [[(1.5 - MEAN) / SCALE, 0, 0, 1], [0] * 4], atol=1e-6)
    assert mask.numpy().tolist() == [[True, False, True, True], [False] * 4]


@pytest.mark.parametrize(
    ("kind", "parts", "rows", "columns"),
    [
        (ValueError, ["Unknown column 'colour'", "Did you mean 'color'"], {"color": ["r"]}, None),
        (
            ValueError,
            ["'colour' of a Table must hold something in the training rows", "Leave the column"],
            {"colour": [None, ""]},
            None,
        ),
        (
            ValueError,
            ["'facts' has no column 'color'", "Did you mean 'colour'"],
            {"colour": ["r"]},
            {"facts": {"color": "colour"}},
        ),
        (
            TypeError,
            ["must be a dict from its columns", "['colour']"],
            {"colour": ["r"]},
            {"facts": ["colour"]},
        ),
    ],
)
def test_wrong_columns_are_refused(kind, parts, rows, columns):
    with says(kind, *parts):
        mk.data.table(rows, {"facts": Table(categorical=("colour",))}, columns=columns)
