"""`check`: the values of its report for a folder with one of every fault."""

import numpy as np
import pytest

import mmkeras as mk
from mmkeras.core import Image, Labels, Number, Text, Vector
from tests.data import files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Train and valid manifests; valid holds one training row under another file name."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("check")
    pictures = [files.encode(p) for p in rng.integers(0, 256, (4, 6, 6, 3)).astype("uint8")]
    for name, data in {
        "1.png": pictures[0],
        "2.png": pictures[1],
        "copy of 2.png": pictures[1],
        "3.png": pictures[2],
        "4.png": pictures[3],
        "broken.png": pictures[3][:60],
    }.items():
        (folder / name).write_bytes(data)
    (folder / "train.csv").write_text(
        "image,text,label,tags,score\n"
        "1.png,one,cat,a|b,1\n"
        "2.png,two,dog,a,2\n"
        ",three,cat,,3\n"
        "broken.png,one,cat,b|a,4\n"
        "3.png,,cow,a,5\n"
    )
    (folder / "valid.csv").write_text(
        "image,text,label,tags,score\n"
        "copy of 2.png,two,dog,a,6\n"
        "3.png,three,cat,b,7\n"
        "4.png,one,cat,a,8\n"
        ",,dog,,9\n"
    )
    return folder


MODALITIES = {"image": Image(size=4), "text": Text(length=3)}
TARGET = {"label": mk.Label(), "tags": Labels(), "score": Number()}


def test_the_report(folder):
    report = mk.data.check(folder / "train.csv", MODALITIES, TARGET, valid=folder / "valid.csv")
    assert report.rows == {"train": 5, "valid": 4}
    assert report.shapes == {"image": ((4, 4, 3), "uint8"), "text": ((3,), "int32")}
    assert report.missing == {"train": {"image": 1, "text": 1}, "valid": {"image": 1, "text": 1}}
    assert list(report.unreadable["train"]["image"]) == [4]
    reason = report.unreadable["train"]["image"][4]
    assert "broken.png" in reason and "Invalid PNG data" in reason
    assert report.unreadable["train"]["text"] == {}
    assert report.unreadable["valid"] == {"image": {}, "text": {}}
    assert report.labels["train"] == {
        "label": {"cat": 3, "cow": 1, "dog": 1},
        "tags": {"a": 4, "b": 2},
    }
    assert report.labels["valid"] == {
        "label": {"cat": 2, "dog": 2, "cow": 0},
        "tags": {"a": 2, "b": 1},
    }
    assert list(report.labels["train"]["label"]) == ["cat", "cow", "dog"]  # most frequent first
    assert report.duplicates == {("train", "valid"): {"image": 2, "text": 3, "row": 1}}
    assert not report.ok
    text = str(report)
    for line in (
        "train: 5 rows",
        "  image uint8(4, 4, 3): 1 missing, 1 unreadable",
        f"    row 4: {reason}",
        "  text int32(3,): 1 missing, 0 unreadable",
        "  label: cat 3, cow 1, dog 1",
        "  tags: a 4, b 2",
        "valid: 4 rows",
        "in valid and in train too: image 2, text 3, row 1",
    ):
        assert line in text.split("\n"), line


def test_ok_is_about_unreadable_items_and_whole_rows():
    train = {"text": ["a", "b", None], "v": [1.0, 2.0, None]}
    specs = {"text": Text(length=2), "v": Vector(normalize=False)}
    fine = mk.data.check(train, specs, valid={"text": ["a", "b", None], "v": [2.0, 1.0, None]})
    # Items come twice, no row does; rows without any item are no duplicates.
    assert fine.duplicates[("train", "valid")] == {"text": 2, "v": 2, "row": 0}
    assert fine.ok
    twice = mk.data.check(train, specs, valid={"text": ["a", "c"], "v": [1.0, 3.0]})
    assert twice.duplicates[("train", "valid")] == {"text": 1, "v": 1, "row": 1}
    assert not twice.ok
    half = mk.data.check(
        {"text": ["a", "b"], "v": [None, 1.0]}, specs, valid={"text": ["a"], "v": [None]}
    )
    assert half.duplicates[("train", "valid")]["row"] == 1  # agrees in what it has
    broken = mk.data.check({"v": [[1.0, 2.0], [np.nan, 1.0]]}, {"v": Vector(size=2)})
    assert not broken.ok and list(broken.unreadable["train"]["v"]) == [2]
    assert broken.missing == {"train": {"v": 0}} and broken.labels == {"train": {}}
    assert broken.duplicates == {}


def test_all_pairs_of_splits_and_in_memory_pictures(rng):
    pictures = rng.integers(0, 256, (5, 4, 4, 3)).astype("uint8")
    report = mk.data.check(
        {"image": pictures[:3]},
        {"image": Image(size=4)},
        valid={"image": pictures[2:4]},
        test={"image": pictures[[4, 2, 2]]},
        on_bad="error",
    )
    assert report.duplicates == {
        ("train", "valid"): {"image": 1, "row": 1},
        ("train", "test"): {"image": 2, "row": 2},
        ("valid", "test"): {"image": 2, "row": 2},
    }


def test_long_lists_are_cut_in_the_text():
    columns = {"v": [1.0] * 20 + [None] * 0, "y": [f"c{i:02}" for i in range(20)]}
    report = mk.data.check(columns, {"v": Vector(normalize=False)}, "y")
    assert len(report.labels["train"]["y"]) == 20
    assert "c11 1, ... 20 classes" in str(report) and "c12" not in str(report)
    report = mk.data.check({"v": [[np.nan, 1.0]] * 8 + [[1.0, 2.0]]}, {"v": Vector(size=2)})
    assert len(report.unreadable["train"]["v"]) == 8
    assert str(report).count("    row ") == 5
