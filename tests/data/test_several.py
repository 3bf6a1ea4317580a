"""Several items per sample: every kind, shared items, absent ones, what is refused."""

import zipfile

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Audio, Image, Several, Text, Vector, Video
from mmkeras.data import decoder
from mmkeras.data.augment import augmenter
from mmkeras.data.draws import Draws
from tests.core.errors import says
from tests.data import clips, files
from tests.data.test_decode import run

H, W = 6, 5
PICTURE = Image(size=(H, W))


def batch(data):
    x = next(iter(data.batches("train", 100)))[0]
    return {key: value.numpy() for key, value in x.items()}


def pictures(rng, count):
    return [files.encode(rng.integers(0, 256, (H, W, 3)).astype("uint8")) for _ in range(count)]


def test_pictures(rng):
    a, b, c = pictures(rng, 3)
    rows = {"views": [[a, b], [c], None, [], [None, a, b], [b"", "", None]]}
    data = mk.data.table(rows, {"views": Several(PICTURE, 3)})
    x = batch(data)
    assert x["views"].shape == (6, 3, H, W, 3)
    assert x["views_mask"].tolist() == [
        [True, True, False],
        [True, False, False],
        [False] * 3,
        [False] * 3,
        [False, True, True],
        [False] * 3,
    ]
    for row, place, raw in ((0, 0, a), (0, 1, b), (1, 0, c), (4, 1, a), (4, 2, b)):
        np.testing.assert_array_equal(x["views"][row, place], files.pixels_of(raw))
    assert not x["views"][~x["views_mask"]].any()
    column = data.splits["train"].columns["views"]
    assert len(column.items) == 4 and column.index.shape == (6, 3)  # each item once, and ""
    assert column.absent().tolist() == [False, False, True, True, False, True]
    raw = data.raw("train", [4, 2])["views"]
    assert raw.tolist() == [[b"", a, b], [b"", b"", b""]]
    value, mask = run(Several(PICTURE, 3), data.raw("train", range(6))["views"].tolist())
    files.same([value, mask], [x["views"], x["views_mask"]])


def test_what_is_learnt_is_learnt_from_all_items():
    rows = {
        "lines": [["a b", "c"], None, ["d a", "", "e"]],
        "points": [[[1.0, 5], [3, 5]], [], None],
    }
    specs = {"lines": Several(Text(length=2), 3), "points": Several(Vector(2), 2)}
    assert not any(spec.adapted for spec in specs.values())
    data = mk.data.table(rows, specs)
    assert all(spec.adapted for spec in data.modalities.values())
    words = data.modalities["lines"].modality.vocabulary
    assert set(words[2:]) == set("abcde")
    points = data.modalities["points"].modality
    assert points.mean == (2.0, 5.0) and points.scale == (1.0, 1.0)
    x = batch(data)
    a, b, c = (words.index(word) for word in "abc")
    assert x["lines"][0].tolist() == [[a, b], [c, 0], [0, 0]]
    assert x["lines_mask"][2].tolist() == [[True, True], [False, False], [True, False]]
    assert x["points"][0].tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert x["points_mask"].tolist() == [[True, True], [False, False], [False, False]]
    raw = data.raw("train", [0, 1])
    assert raw["points"].shape == (2, 2, 2) and np.isnan(raw["points"][1]).all()


def test_arrays_and_a_mask_of_the_source(rng):
    values = rng.integers(0, 256, (4, 2, H, W, 3)).astype("uint8")
    given = np.array([[True, True], [True, False], [False, True], [False, False]])
    rows = {"views": values, "views_mask": given}
    data = mk.data.table(rows, {"views": Several(PICTURE, 2)})
    x = batch(data)
    np.testing.assert_array_equal(x["views_mask"], given)
    np.testing.assert_array_equal(x["views"], values * given[..., None, None, None])
    value, mask = run(Several(PICTURE, 2), data.raw("train", range(4))["views"].tolist())
    files.same([value, mask], [x["views"], x["views_mask"]])
    with says(ValueError, "The mask views_mask must be a bool array of shape (4, 2)", "(4,)"):
        mk.data.table({**rows, "views_mask": given[:, 0]}, {"views": Several(PICTURE, 2)})


def test_clips_and_sounds(rng):
    clip = clips.gif(clips.colours(3, (H, W)))
    wave = rng.uniform(-0.5, 0.5, 50).astype("float32")
    rows = {"clips": [[clip, clip], [clip]], "sounds": [[wave], [wave, wave[:20]]]}
    specs = {
        "clips": Several(Video(frames=4, size=(H, W)), 2),
        "sounds": Several(Audio(rate_hz=1000, seconds=0.05), 2),
    }
    x = batch(mk.data.table(rows, specs))
    assert x["clips"].shape == (2, 2, 4, H, W, 3)
    assert x["clips_mask"].tolist() == [
        [[True] * 3 + [False]] * 2,
        [[True] * 3 + [False], [False] * 4],
    ]
    assert x["sounds_mask"].sum(axis=2).tolist() == [[50, 0], [50, 20]]


def test_files_archives_columns_and_frames(tmp_path, rng):
    raw = pictures(rng, 3)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number, data in enumerate(raw):
            (tmp_path / f"{number}.png").write_bytes(data)
            archive.writestr(f"{number}.png", data)
    lists = {"views": [["0.png", "1.png"], ["2.png", None], None]}
    expected = batch(mk.data.table(lists, {"views": Several(PICTURE, 2)}, root=tmp_path))
    assert expected["views_mask"].tolist() == [[True, True], [True, False], [False, False]]
    modalities = {"views": Several(PICTURE, 2)}
    columns = {"front": ["0.png", "2.png", None], "side": ["1.png", "", None]}
    lines = "\n".join(["front,side", "0.png,1.png", "2.png,", ","])
    (tmp_path / "rows.csv").write_text(lines + "\n")
    per_column = {"columns": {"views": ["front", "side"]}}
    for data in (
        mk.data.table(lists, modalities, archive=tmp_path / "all.zip"),
        mk.data.table(pd.DataFrame(lists), modalities, root=tmp_path),
        mk.data.table(columns, modalities, root=tmp_path, **per_column),
        mk.data.table(tmp_path / "rows.csv", modalities, **per_column),
    ):
        files.same(batch(data), expected)


def test_cache_check_and_without(tmp_path, rng):
    a, b, c = pictures(rng, 3)
    rows = {"views": [[a, b], [c], None, [b, a]], "label": list("xyxy")}
    modalities = {"views": Several(PICTURE, 2)}
    data = mk.data.table(rows, modalities, "label", valid={"views": [[a, b]], "label": ["x"]})
    expected = batch(data)
    for held in (data.cache(), data.cache(tmp_path), data.cache(tmp_path)):
        assert held.splits["train"].columns["views"].items.shape == (4, H, W, 3)
        files.same(batch(held), expected)
        assert held.raw("train", [0])["views"].tolist() == [[a, b]]
    report = mk.data.check(rows, modalities, "label", valid={"views": [[a, b]], "label": ["x"]})
    assert report.missing["train"]["views"] == 1
    assert report.duplicates["train", "valid"] == {"views": 1, "row": 1}
    gone = batch(data.without("train", "views", [0, 3]))
    assert gone["views_mask"].tolist() == [[False] * 2, [True, False], [False] * 2, [False] * 2]


def test_items_are_augmented_each_by_itself(rng):
    value = np.repeat(rng.integers(0, 256, (1, 1, H, W, 3)), 12, axis=0).repeat(3, axis=1)
    value = value.astype("uint8")
    mask = np.ones((12, 3), bool)
    mask[0] = False
    spec = Several(PICTURE.replace(augment={"brightness": {"fraction": 0.4}}), 3)
    seed = Draws(tf.constant([1, 2], tf.uint32))
    out = augmenter(spec)(tf.constant(value), tf.constant(mask), seed).numpy()
    assert not out[0].any()
    assert any(not np.array_equal(row[0], row[1]) for row in out[1:])
    flat = augmenter(spec.modality)(
        tf.constant(value.reshape(36, H, W, 3)), tf.constant(mask.reshape(36)), seed
    )
    np.testing.assert_array_equal(out.reshape(36, H, W, 3), flat)
    assert augmenter(Several(PICTURE, 3)) is None


@pytest.mark.parametrize("cached", [False, True])
def test_random_crops_of_items(cached, rng):
    spec = Several(PICTURE.replace(augment={"random_resized_crop": {"scale": (0.2, 0.5)}}), 2)
    (raw,) = pictures(rng, 1)
    data = mk.data.table({"views": [[raw, raw]] * 4}, {"views": spec})
    data = data.cache() if cached else data
    (x,) = next(iter(data.train(4, shuffle=False)))
    flat = x["views"].numpy().reshape(8, -1)
    assert len({row.tobytes() for row in flat}) >= 6  # small pictures: some boxes agree
    (plain,) = next(iter(data.train(4, augment=False)))
    assert len({row.tobytes() for row in plain["views"].numpy().reshape(8, -1)}) == 1


def test_an_unreadable_item(rng):
    a, b = pictures(rng, 2)
    rows = {"views": [[a, b], [b"nothing", a]]}
    with says(ValueError, "row 2 of the given columns, column 'views'", "on_bad='mask'"):
        mk.data.table(rows, {"views": Several(PICTURE, 2)})
    with pytest.warns(UserWarning, match="cannot be read"):
        data = mk.data.table(rows, {"views": Several(PICTURE, 2)}, on_bad="mask")
    assert list(data.bad["train"]["views"]) == [2]
    assert batch(data)["views_mask"].tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ([b"a"] * 4, ["must hold at most 2 items", "Received: 4", "Raise `count`"]),
        ("a.png", ["must hold a list of items", "'a.png'", "columns={'views': ['first'"]),
        (b"abc", ["must hold a list of items"]),
        (3, ["must hold a list of items", "3"]),
    ],
)
def test_wrong_cells(cell, parts):
    rows = {"views": [None, cell]}
    with says(ValueError, "Row 2 of the given columns, modality 'views'", *parts):
        mk.data.table(rows, {"views": Several(PICTURE, 2)})


def test_wrong_items_name_their_row():
    rows = {"points": [[[1.0, 2.0]], [[1.0, 2.0], [3.0]]]}
    with says(ValueError, "Row 2 of the given columns", "must hold 2 numbers", "Received: 1"):
        mk.data.table(rows, {"points": Several(Vector(2), 2)})


def test_a_decoder_of_several_takes_a_vocabulary_file(tmp_path):
    (tmp_path / "words.txt").write_text("[PAD]\n[UNK]\nred\n")
    spec = Several(Text(length=2, vocabulary=("[PAD]", "[UNK]", "red")), 2)
    decode = decoder(spec, vocabulary_file=tmp_path / "words.txt")
    value, mask = decode(tf.constant([["red", "x red"]]))
    assert value.numpy().tolist() == [[[2, 0], [1, 2]]]
    assert mask.numpy().tolist() == [[[True, False], [True, True]]]


def test_features_are_kept_per_item_only():
    data = mk.data.table({"points": [[[1.0, 2.0]]]}, {"points": Several(Vector(2), 2)})
    with says(ValueError, "Features are kept per item", "'points' has several"):
        mk.training.cache_features(None, data, "points")
