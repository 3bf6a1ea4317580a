"""Sources: the same rows give the same data from CSV, JSONL, DataFrame, columns and archives."""

import csv
import io
import json
import tarfile
import zipfile

import numpy as np
import pandas
import pytest

import mmkeras as mk
from mmkeras.core import Audio, Image, Number, Text, Vector
from mmkeras.data import sources
from tests.core.errors import says
from tests.data import files

SPECS = {
    "image": Image(size=4),
    "audio": Audio(rate_hz=8000, seconds=0.03),
    "text": Text(length=4),
    "v": Vector(size=2),
}
TARGET = {"label": mk.Label(), "score": Number()}
COLUMNS = {"v": ["a", "b"]}
TEXTS = ['say "a, b"', None, "line\nbreak é", "  日本 a "]
LABELS = ["x", "10", "x", "2"]
SCORES = [1.5, -2.0, 0.0, 3.25]
NUMBERS = [(1.0, 2.0), (0.5, -1.0), None, (3.0, 0.25)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two pictures, two sounds and a zip and a tar file of all."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("data")
    (folder / "sub").mkdir()
    made = {
        "sub/é 1.png": files.encode(rng.integers(0, 256, (4, 4, 3)).astype("uint8")),
        "2.jpg": files.encode(rng.integers(0, 256, (8, 8, 3)).astype("uint8"), "JPEG"),
        "1.wav": files.wav(rng.integers(-999, 999, 100)),
        "sub/2.wav": files.wav(rng.integers(-999, 999, 300)),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in made:
            archive.write(folder / name, name)
    with tarfile.open(folder / "all.tar.gz", "w:gz") as archive:
        for name in ("sub", *made):
            archive.add(folder / name, name, recursive=False)
    return folder


IMAGES = ["sub/é 1.png", "2.jpg", None, "sub/é 1.png"]
SOUNDS = [None, "1.wav", "sub/2.wav", "1.wav"]


def rows():
    for image, sound, text, label, score, numbers in zip(
        IMAGES, SOUNDS, TEXTS, LABELS, SCORES, NUMBERS, strict=True
    ):
        a, b = numbers or (None, None)
        yield {
            "image": image,
            "audio": sound,
            "text": text,
            "label": label,
            "score": score,
            "a": a,
            "b": b,
        }


def columns():
    listed = list(rows())
    return {name: [row[name] for row in listed] for name in listed[0]}


def write_csv(path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns()))
        writer.writeheader()
        writer.writerows(rows())
    return path


def write_jsonl(path):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows()))
    return path


def table(source, **kwargs):
    return mk.data.table(source, SPECS, TARGET, columns=COLUMNS, **kwargs)


def contents(data):
    return data.modalities, data.targets, files.numpy(data.batches("train", 4))


@pytest.fixture(scope="module")
def expected(folder):
    return contents(table(write_csv(folder / "train.csv")))


def test_the_csv_is_read_as_written(expected, folder):
    modalities, targets, ((x, y),) = expected
    np.testing.assert_array_equal(x["image"][0], files.pixels_of((folder / IMAGES[0]).read_bytes()))
    assert x["image_mask"].tolist() == [True, True, False, True]
    pcm = files.samples_of((folder / "1.wav").read_bytes())
    np.testing.assert_array_equal(x["audio"][1, :100], pcm / np.float32(32768))
    assert x["audio_mask"].sum(axis=1).tolist() == [0, 100, 240, 100]
    words = [[modalities["text"].vocabulary[i] for i in r if i] for r in x["text"]]
    assert words == [["say", "a", "b"], [], ["line", "break", "é"], ["日本", "a"]]
    given = np.array([n for n in NUMBERS if n])
    standard = (given - given.mean(axis=0)) / given.std(axis=0)
    np.testing.assert_allclose(x["v"][[0, 1, 3]], standard, rtol=1e-5)
    assert not x["v"][2].any() and x["v_mask"].tolist() == [True, True, False, True]
    assert targets["label"].classes == ("2", "10", "x")
    assert y["label"].tolist() == [2, 1, 2, 0]
    assert y["score"].tolist() == SCORES


def test_every_source_gives_the_same(expected, folder):
    frame = pandas.DataFrame(columns())
    assert frame.isna().any(axis=None)
    shuffled_index = frame.set_index(pandas.Index([3, 1, 0, 2]))
    for name, data in {
        "jsonl": table(write_jsonl(folder / "train.jsonl")),
        "frame": table(frame, root=folder),
        "columns": table(columns(), root=str(folder)),
        "series": table({n: shuffled_index[n] for n in frame.columns}, root=folder),
    }.items():
        modalities, targets, batches = contents(data)
        assert modalities == expected[0], name
        assert targets == expected[1], name
        files.same(batches, expected[2])


@pytest.mark.parametrize("archive", ["all.zip", "all.tar.gz"])
def test_archives_give_the_same(expected, folder, archive, tmp_path):
    path = write_csv(tmp_path / "elsewhere.csv")
    archives = {"image": folder / archive, "audio": folder / archive}
    files.same(contents(table(path, archive=archives))[2], expected[2])
    data = table(write_jsonl(tmp_path / "elsewhere.jsonl"), archive=str(folder / archive))
    files.same(contents(data)[2], expected[2])
    raw = data.raw("train", [0, 2])
    assert raw["image"].tolist() == [(folder / IMAGES[0]).read_bytes(), b""]


def test_paths_refer_to_the_manifest_or_the_root(folder, tmp_path, monkeypatch):
    (folder / "one.csv").write_text("image\n2.jpg\n", encoding="utf-8")
    image = {"image": Image(size=4)}
    wanted = (folder / "2.jpg").read_bytes()

    def held(source, **kwargs):
        return mk.data.table(source, image, **kwargs).raw("train", [0])["image"][0]

    assert held(folder / "one.csv") == wanted
    monkeypatch.chdir(folder)
    assert held("one.csv") == held({"image": ["2.jpg"]}) == wanted
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "two.csv"
    path.write_text(f"image\n{folder / '2.jpg'}\n", encoding="utf-8")  # an absolute path
    assert held(path) == wanted
    assert held(path, root="/nowhere") == wanted
    path.write_text("image\n2.jpg\n", encoding="utf-8")
    assert held(path, root=folder) == wanted
    with says(ValueError, "row 1 of two.csv", str(tmp_path / "2.jpg"), "No such file"):
        held(path)


# Reading alone


def test_csv_details(tmp_path):
    path = tmp_path / "a.CSV"
    path.write_bytes(b'\xef\xbb\xbfname,b\r\n"x\ny",1\r\n\r\n,2\r\n')  # BOM, CRLF, empty line
    got = sources.read(path)
    assert got.columns == {"name": ["x\ny", None], "b": ["1", "2"]}
    assert got.where == "a.CSV" and got.root == tmp_path and len(got) == 2


def test_jsonl_details(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"a": 1}\n  \n{"b": [1, "é"], "a": null}\n', encoding="utf-8")
    assert sources.read(path).columns == {"a": [1, None], "b": [None, [1, "é"]]}


def test_every_kind_of_nothing_is_absent():
    frame = pandas.DataFrame(
        {
            "text": pandas.array(["a", None, "b"], dtype="string"),
            "v": pandas.array([1, None, 3], dtype="Int64"),
            "label": pandas.array([1, 2, 1], dtype="Int64"),
        }
    )
    spec = {"text": Text(length=2), "v": Vector(normalize=False)}
    first = mk.data.table(frame, spec, "label")
    assert first.classes == ("1", "2")
    second = mk.data.table(
        {
            "text": ["a", float("nan"), "b"],
            "v": [1, np.nan, 3],
            "label": np.array([1.0, 2.0, 1.0]),
        },
        spec,
        "label",
    )
    for data in (first, second):
        ((x, _),) = files.numpy(data.batches("train", 3))
        assert x["text_mask"].any(axis=1).tolist() == [True, False, True]
        assert x["v_mask"].tolist() == [True, False, True]
        assert data.modalities["text"].vocabulary == ("[PAD]", "[UNK]", "a", "b")
    for nothing in (None, "", b"", float("nan"), np.float32("nan"), pandas.NA, pandas.NaT):
        assert sources.missing(nothing)
    for something in ("nan", " ", 0, 0.0, False, [], np.array([np.nan])):
        assert not sources.missing(something)


def test_empty_cells_with_bytes_archives_and_numbers(folder):
    picture = (folder / "2.jpg").read_bytes()
    image = {"image": Image(size=4)}
    for cells, archive in (([picture, "", None], None), (["2.jpg", "", np.nan], "all.zip")):
        data = mk.data.table({"image": cells}, image, archive=archive and folder / archive)
        assert data.splits["train"].columns["image"].absent().tolist() == [False, True, True]
        assert data.raw("train", [0, 1])["image"].tolist() == [picture, b""]
    cells = [[1, 2], np.nan, "", None, np.array([3.0, 4.0])]
    data = mk.data.table({"v": cells}, {"v": Vector(size=2, normalize=False)})
    assert data.splits["train"].columns["v"].absent().tolist() == [False, True, True, True, False]


def test_frames_of_arrays(rng):
    pictures = rng.integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    frame = pandas.DataFrame({"image": [*pictures, None]})
    ((x,),) = files.numpy(mk.data.table(frame, {"image": Image(size=4)}).batches("train", 3))
    np.testing.assert_array_equal(x["image"][:2], pictures)
    assert x["image_mask"].tolist() == [True, True, False]


def test_rows_take_keeps_the_numbers_of_the_source():
    got = sources.Rows({"a": [10, 20, 30], "b": np.arange(3)}, "here", None)
    some = got.take(np.array([2, 0])).take(np.array([1, 0]))
    assert some.columns["a"] == [10, 30] and some.columns["b"].tolist() == [0, 2]
    assert some.numbers.tolist() == [1, 3]
    assert sources.read(some) is some


def test_read_members(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b.txt", "hello")
        archive.writestr("c", "x" * 100)
    assert sources.read_members(path, ["a/b.txt", "missing"]) == ({"a/b.txt": b"hello"}, {})
    monkeypatch.setattr(sources, "ARCHIVE_LIMIT", 50)
    assert sources.read_members(path, ["a/b.txt"])[0]  # only the wanted members count
    with says(ValueError, "fit into 50 bytes", "105 bytes", "a.zip", "`root=`"):
        sources.read_members(path, ["a/b.txt", "c"])
    tar = tmp_path / "a.tar"
    with tarfile.open(tar, "w") as archive:
        info = tarfile.TarInfo("c")
        info.size = 100
        archive.addfile(info, io.BytesIO(b"x" * 100))
    with says(ValueError, "fit into 50 bytes", "100 bytes", "a.tar"):
        sources.read_members(tar, ["c"])
    path.write_bytes(b"neither")
    with says(ValueError, "must be a zip or tar file", "a.zip"):
        sources.read_members(path, ["c"])
    with says(ValueError, "archive must exist", "none.zip"):
        sources.read_members(tmp_path / "none.zip", ["c"])
