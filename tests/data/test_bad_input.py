"""Bad input: every message names the rule, what was received and the way out."""

import zipfile

import numpy as np
import pandas
import pytest

import mmkeras as mk
from mmkeras.core import Audio, Image, Label, Labels, Number, Text, Vector
from tests.core.errors import says
from tests.data import files

V = {"v": Vector(normalize=False)}
P = {"image": Image(size=4)}
A = {"a": Audio(rate_hz=8000, seconds=0.03)}
T = {"t": Text()}
WAY_OUT = "Correct them, or pass on_bad='mask' to treat them as absent."


def refuses(kind, parts, source, modalities, *args, **kwargs):
    with says(kind, *parts):
        mk.data.table(source, modalities, *args, **kwargs)


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# Sources


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "", ["CSV file must start with a header", "is empty"]),
        ("a.csv", "\nt\nx\n", ["must start with a header"]),
        ("a.csv", "t,b\n", ["at least one row", "a.csv is empty"]),
        ("a.jsonl", "", ["at least one row", "a.jsonl is empty"]),
        ("a.jsonl", "\n \n", ["at least one row", "a.jsonl is empty"]),
        ("a.csv", "t,b,t\n1,2,3\n", ["Column names must differ", "['t', 'b', 't']", "a.csv"]),
        (
            "a.csv",
            't,b\n1,2\n"x\ny",3\n1,2,3\n',
            ["Every line must have 2 cells", "Received: 3", "line 5 of a.csv", "Quote cells"],
        ),
        ("a.csv", "t,b\n1\n", ["Every line must have 2 cells", "Received: 1", "line 2 of a.csv"]),
        ("a.jsonl", '{"t": 1}\n\n{"t": 1\n', ["must be a JSON object", "Line 3 of a.jsonl"]),
        ("a.jsonl", '{"t": 1}\n[1, 2]\n', ["must be a JSON object", "Line 2", "[1, 2]"]),
        ("a.csv", b"t\ncaf\xe9\n", ["must be UTF-8", "a.csv", "0xe9", "pass the DataFrame"]),
        ("a.jsonl", b'{"t": "caf\xe9"}\n', ["must be UTF-8", "a.jsonl", "pass the DataFrame"]),
        ("a.csv", "t\n" + "x" * 200_000, ["a.csv", "field larger than field limit", "DataFrame"]),
        (
            "a.txt",
            "t\nx\n",
            ["must be a .csv or .jsonl or .parquet file", "a.txt", "pass the DataFrame"],
        ),
    ],
)
def test_manifests(tmp_path, name, text, parts):
    refuses(ValueError, parts, written(tmp_path, name, text), T)


def test_sources_that_are_none(tmp_path):
    missing = str(tmp_path / "none.csv")
    refuses(ValueError, ["must exist", missing, "no such file"], missing, T)
    refuses(TypeError, ["a path, a DataFrame, a tf.data.Dataset or a dict", "Received: int"], 3, T)
    refuses(
        TypeError,
        ["a path, a DataFrame, a tf.data.Dataset or a dict", "Received: list"],
        [{"t": 1}],
        T,
    )
    refuses(ValueError, ["at least one row", "the DataFrame is empty"], pandas.DataFrame(), T)
    refuses(ValueError, ["at least one row", "the given columns is empty"], {}, T)
    refuses(ValueError, ["at least one row"], {"t": []}, T)
    refuses(
        ValueError,
        ["must be of one length", "{'t': 2, 'v': 1}", "the given columns"],
        {"t": ["a", "b"], "v": [1.0]},
        T,
    )


def test_unknown_columns_name_the_nearest(tmp_path):
    path = written(tmp_path, "a.csv", "text,label,w\nx,a,1\ny,b,2\n")
    specs = {"text": Text()}
    common = ["in a.csv", "Known: label, text, w.", "columns={'modality': 'column'}"]
    refuses(
        ValueError,
        ["Unknown column 'texts'", "Did you mean 'text'?", *common],
        path,
        {"texts": Text()},
    )
    refuses(ValueError, ["Unknown column 'lable'", "Did you mean 'label'?"], path, specs, "lable")
    refuses(ValueError, ["Unknown column 'tx'", *common], path, specs, columns={"text": "tx"})
    refuses(
        ValueError,
        ["Unknown column 'w2'", "Did you mean 'w'?"],
        path,
        {"v": Vector(size=2)},
        columns={"v": ["w", "w2"]},
    )
    refuses(ValueError, ["Unknown column 'grp'", "in a.csv"], path, specs, valid=0.5, group="grp")
    valid = written(tmp_path, "b.csv", "txt\nx\n")
    refuses(ValueError, ["Unknown column 'text' in b.csv", "'txt'"], path, specs, valid=valid)


def test_arguments_of_table():
    columns = {"v": [1.0, 2.0], "y": ["a", "b"]}
    refuses(
        ValueError,
        ["`columns` must map names of modalities or targets", "'vv'", "Did you mean 'v'?"],
        columns,
        V,
        columns={"vv": "v"},
    )
    refuses(
        ValueError,
        ["`on_bad` must be one of ['error', 'mask']", "'skip'"],
        columns,
        V,
        on_bad="skip",
    )
    refuses(ValueError, ["`seed`", "at least 0", "seed=-1"], columns, V, seed=-1)
    refuses(ValueError, ["Python identifier", "'my v'", "columns="], columns, {"my v": Vector()})
    refuses(ValueError, ["at least one modality", "()"], columns, {})
    refuses(TypeError, ["dict of name -> spec", "['v']", "mk.Image()"], columns, ["v"])
    refuses(
        TypeError,
        ["The modality 'v' must be a spec such as mk.Image()", "'vector'"],
        columns,
        {"v": "vector"},
    )
    refuses(TypeError, ["The target 'y' must be mk.Label()", "'label'"], columns, V, {"y": "label"})


def test_batches_and_splits():
    data = mk.data.table({"v": [1.0, 2.0, 3.0]}, V)
    with says(
        ValueError,
        "`batch_size` must not exceed the number of training rows",
        "batch_size=4, rows=3",
        "Choose a smaller batch",
    ):
        data.train(4)
    for wrong in (0, 2.0, "2"):
        with says(ValueError, "`batch_size` must be a whole number", f"batch_size={wrong!r}"):
            data.train(wrong)
        with says(ValueError, "`batch_size` must be a whole number", f"batch_size={wrong!r}"):
            data.batches("train", wrong)
    for get in (
        lambda: data.valid(1),
        lambda: data.batches("valid", 1),
        lambda: data.raw("valid", [0]),
        lambda: data.take("valid", np.array([0])),
        lambda: data.without("valid", "v", np.array([0])),
    ):
        with says(ValueError, "There is no split 'valid'", "['train']", "Pass `valid=`"):
            get()


# Files


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    good = rng.integers(0, 256, (16, 16, 3)).astype("uint8")
    return {kind: files.encode(good, kind) for kind in ("JPEG", "PNG", "GIF", "BMP")}


def test_a_truncated_jpeg_is_named_and_can_be_masked(pictures, tmp_path):
    written(tmp_path, "good.jpg", pictures["JPEG"])
    broken = written(tmp_path, "broken.jpg", pictures["JPEG"][:300])
    manifest = written(
        tmp_path, "train.csv", "image,y\ngood.jpg,a\nbroken.jpg,b\n,a\nbroken.jpg,b\n"
    )
    refuses(
        ValueError,
        [
            "2 item(s) of 'image' in the train rows cannot be read",
            "First: row 2 of train.csv, column 'image'",
            str(broken),
            "Invalid JPEG data",
            WAY_OUT,
        ],
        manifest,
        P,
    )
    data = mk.data.table(manifest, P, "y", on_bad="mask")
    assert list(data.bad) == ["train"] and list(data.bad["train"]["image"]) == [2, 4]
    for reason in data.bad["train"]["image"].values():
        assert "broken.jpg" in reason and "Invalid JPEG data" in reason
        assert "\n" not in reason and "{{" not in reason and "File " not in reason
    ((x, y),) = files.numpy(data.batches("train", 4))
    assert x["image_mask"].tolist() == [True, False, False, False]
    assert x["image"][0].any() and not x["image"][1:].any()
    assert y["y"].tolist() == [0, 1, 0, 1]
    assert data.raw("train", [1])["image"].tolist() == [b""]
    refuses(
        ValueError,
        ["1 item(s) of 'image' in the valid rows"],
        {"image": [None, str(tmp_path / "good.jpg")]},
        P,
        valid={"image": [str(broken)]},
    )


@pytest.mark.parametrize(
    ("kind", "cut", "reason"),
    [
        ("PNG", 100, "Invalid PNG data, size 100"),
        ("GIF", 100, "Invalid GIF data"),
        ("BMP", 200, "Input size should match"),
        (None, 0, "must be a JPEG, PNG, GIF or BMP"),
    ],
)
def test_broken_pictures_of_every_format(pictures, kind, cut, reason):
    raw = pictures[kind][:cut] if kind else b"text"
    data = mk.data.table({"image": [raw, pictures["JPEG"]]}, P, on_bad="mask")
    assert list(data.bad["train"]["image"]) == [1]
    assert data.bad["train"]["image"][1].startswith(reason)
    assert not data.bad["train"]["image"][1].endswith(".")


def test_missing_and_empty_files_and_folders(tmp_path, pictures):
    written(tmp_path, "empty.png", b"")
    (tmp_path / "folder").mkdir()
    names = ["none.png", "empty.png", "folder", None]
    data = mk.data.table({"image": names}, P, root=tmp_path, on_bad="mask")
    bad = data.bad["train"]["image"]
    assert list(bad) == [1, 2, 3]  # an empty cell is absent, an empty file is bad
    assert bad[1] == f"{tmp_path}/none.png {tmp_path}/none.png; No such file or directory"
    assert bad[2] == f"{tmp_path}/empty.png is empty"
    assert bad[3].endswith("Is a directory")
    assert data.splits["train"].columns["image"].absent().all()


def test_sounds_that_do_not_fit():
    samples = np.arange(100)
    good = files.wav(samples)
    cases = {
        files.wav(
            samples, rate=16_000
        ): "sampling rate must be 8000 Hz as declared. Received Hz: 16000",
        files.wav(samples, channels=2): "the sound must have one channel. Received channels: 2",
        files.wav(samples, width=1): "Can only read 16-bit WAV files, but received 8",
        good[:60]: "Data too short",
        b"RIFF": "Data too short",
        files.wav([]): "is empty",
    }
    common = [
        "1 item(s) of 'a' in the train rows",
        "row 2 of the given columns, column 'a'",
        WAY_OUT,
    ]
    for raw in list(cases)[:2]:
        refuses(ValueError, [*common, cases[raw]], {"a": [good, raw]}, A)
    data = mk.data.table({"a": [good, *cases]}, A, on_bad="mask")
    bad = data.bad["train"]["a"]
    assert list(bad) == [2, 3, 4, 5, 6, 7]
    for reason, expected in zip(bad.values(), cases.values(), strict=True):
        assert expected in reason
    ((x,),) = files.numpy(data.batches("train", 9))
    assert x["a_mask"].any(axis=1).tolist() == [True] + [False] * 6 and not x["a"][1:].any()


def test_archive_members(tmp_path, pictures):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", pictures["PNG"])
        archive.writestr("b.png", b"broken")
    refuses(
        ValueError,
        [
            "row 3 of the given columns",
            "'image'",
            str(path),
            "no member 'none.png'",
            "on_bad='mask'",
        ],
        {"image": ["a.png", None, "none.png"]},
        P,
        archive=path,
    )
    rows = {"image": ["a.png", "b.png", "none.png", None, "none.png"]}
    with pytest.warns(
        UserWarning, match="3 of 5 items of 'image' in the train rows cannot be read"
    ):
        data = mk.data.table(rows, P, archive={"image": path}, on_bad="mask")
    assert list(data.bad["train"]["image"]) == [2, 3, 5]
    assert data.splits["train"].columns["image"].absent().tolist() == [False] + [True] * 4
    with says(ValueError, "Unknown modality 'imag' in `archive`", "Did you mean 'image'"):
        mk.data.table(rows, P, archive={"imag": path})
    with says(ValueError, "`group` keeps rows together", "Leave `group` out"):
        mk.data.table(rows, P, archive=path, on_bad="mask", group="image")


def test_broken_archive_member(tmp_path, rng):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", rng.bytes(4000))
    whole = bytearray(path.read_bytes())
    whole[2000] ^= 0xFF  # the checksum of the member no longer fits
    path.write_bytes(bytes(whole))
    with says(ValueError, "row 1 of the given columns", "member 'a.png' is broken"):
        mk.data.table({"image": ["a.png"]}, P, archive=path)


def test_rows_keep_their_numbers_when_valid_is_a_fraction(pictures):
    items = [pictures["PNG"]] * 10
    items[7] = b"broken"
    seen = set()
    for seed in range(4):
        data = mk.data.table({"image": items}, P, valid=0.5, seed=seed, on_bad="mask")
        found = {s: list(part["image"]) for s, part in data.bad.items() if part["image"]}
        assert list(found.values()) == [[8]]
        seen |= set(found)
    assert seen == {"train", "valid"}
    columns = {"v": [1.0] * 10, "y": ["a", "b"] * 4 + [None] * 2}
    with pytest.raises(ValueError, match="Row (9|10) of the given columns, target 'y'"):
        mk.data.table(columns, V, "y", valid=0.5)


# Truth


def test_labels():
    base = {"v": [1.0, 2.0], "y": ["apple", "pear"]}
    refuses(
        ValueError,
        [
            "Row 2 of the given columns, target 'y'",
            "one of the classes. Known: apple, pear. Did you mean 'apple'?",
            "Received: 'aple'",
            "mk.Label(classes=[...])",
        ],
        base,
        V,
        "y",
        valid={"v": [1.0, 1.0], "y": ["pear", "aple"]},
    )
    for nothing in (None, "", np.nan):
        refuses(
            ValueError,
            [
                "Row 3",
                "target 'y': must not be missing.",
                f"Received: {nothing!r}",
                "Correct the row",
            ],
            {"v": [1.0, 2.0, 3.0], "y": ["a", "b", nothing]},
            V,
            "y",
        )
    refuses(
        ValueError,
        ["one of the classes", "Received: 'c|a'"],
        {"v": [1.0], "y": ["c|a"]},
        V,
        {"y": Labels(classes=["a", "b"])},
    )
    refuses(
        ValueError,
        ["one of the classes", "Known: a, b"],
        {"v": [1.0], "y": ["c"]},
        V,
        {"y": Label(classes=["a", "b"])},
    )
    for cells in (["a", "a"], [None, None]):
        received = f"Received: {sorted({c for c in cells if c})}"
        refuses(
            ValueError,
            ["The target 'y' must have at least two classes", received, "mk.Label(classes=[...])"],
            {"v": [1.0, 2.0], "y": cells},
            V,
            "y",
        )


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        *((cell, "must be a") for cell in ("abc", float("inf"), "nan", [1])),
        *((cell, "must not be missing") for cell in (None, float("nan"))),
    ],
)
def test_numbers_that_are_none(cell, rule):
    with says(ValueError, f"Row 2 of the given columns, target 'y': {rule}", f"Received: {cell!r}"):
        mk.data.table({"v": [1.0, 2.0], "y": [1.0, cell]}, V, {"y": Number()})


# Numbers, arrays


def test_vectors(tmp_path):
    two = {"v": Vector(size=2)}
    refuses(
        ValueError,
        [
            "Row 2 of the given columns, modality 'v'",
            "must hold 2 numbers",
            "Received: 3",
            "the size",
        ],
        {"v": [[1, 2], [1, 2, 3]]},
        two,
    )
    refuses(ValueError, ["Row 1", "must hold 2 numbers", "Received: 1"], {"v": [1.0, 2.0]}, two)
    path = written(tmp_path, "a.csv", "x,y\n1,2\n3,abc\n")
    refuses(
        ValueError,
        [
            "Row 2 of a.csv, modality 'v': must hold numbers",
            "Received: ('3', 'abc')",
            "leave the cell",
        ],
        path,
        two,
        columns={"v": ["x", "y"]},
    )
    refuses(ValueError, ["must hold numbers", "Received: 'red'"], {"v": ["red"]}, V)
    path = written(tmp_path, "b.csv", "x,y\n1,2\n3,\n,\ninf,1\n")
    refuses(
        ValueError,
        ["2 item(s) of 'v'", "row 2 of b.csv, column 'v'", "NaN or infinity: [ 3. nan]", WAY_OUT],
        path,
        two,
        columns={"v": ["x", "y"]},
    )
    data = mk.data.table(path, two, columns={"v": ["x", "y"]}, on_bad="mask")
    assert list(data.bad["train"]["v"]) == [2, 4]
    assert data.modalities["v"].mean == (1.0, 2.0)  # of the complete row
    ((x,),) = files.numpy(data.batches("train", 4))
    assert x["v_mask"].tolist() == [True, False, False, False] and not x["v"][1:].any()


def test_arrays_of_pictures(rng):
    good = rng.integers(0, 256, (2, 4, 4, 3)).astype("uint8")
    refuses(
        ValueError,
        [
            "Row 1 of the given columns, modality 'image'",
            "uint8",
            "dtype float32",
            "astype('uint8')",
        ],
        {"image": good.astype("float32") / 255},
        P,
    )
    refuses(
        ValueError,
        ["Row 2", "uint8 (H, W) or (H, W, C)", "shape (1, 4, 4, 3)"],
        {"image": [good[0], good[:1]]},
        P,
    )
    refuses(
        ValueError,
        ["Row 1", "declared channels=1", "Received: 3", "Image(channels=...)"],
        {"image": good},
        {"image": Image(size=4, channels=1)},
    )
    refuses(
        ValueError,
        ["declared channels=3", "Received: 4"],
        {"image": np.zeros((1, 4, 4, 4), "uint8")},
        P,
    )


def test_arrays_of_waves():
    wave = np.zeros(100, "float32")
    broken = wave.copy()
    broken[3] = np.nan
    for cell, parts in (
        (np.zeros(100, "int16"), ["dtype int16", "Divide 16-bit samples by 32768"]),
        (np.zeros((100, 1)), ["shape (100, 1)"]),
        (broken, ["without NaN", "1 NaN"]),
        (np.array([np.inf]), ["1-D float array in [-1, 1)", "shape (1,)"]),
    ):
        refuses(
            ValueError, ["Row 2 of the given columns, modality 'a'", *parts], {"a": [wave, cell]}, A
        )


def test_masks_of_arrays():
    pictures, waves = np.zeros((2, 4, 4, 3), "uint8"), np.zeros((2, 240), "float32")
    way = "Give True where the data are real"
    for mask in (np.ones((2, 1), bool), np.ones(3, bool), np.ones(2, int)):
        received = f"shape {mask.shape}, dtype {mask.dtype}"
        if len(mask) == 2:
            parts = ["mask image_mask must be a bool array of shape (2,)", received, way]
        else:
            parts = ["must be of one length", "'image_mask': 3"]
        refuses(ValueError, parts, {"image": pictures, "image_mask": mask}, P)
    refuses(
        ValueError,
        ["mask a_mask must be a bool array of shape (2, 240)", "shape (2, 100)", way],
        {"a": waves, "a_mask": np.ones((2, 100), bool)},
        A,
    )
