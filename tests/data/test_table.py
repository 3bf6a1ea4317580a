"""`table`: order, batches, splits, targets, cache, raw; on numbers and in-memory items."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Audio, Image, Label, Labels, Number, Text, Vector
from tests.core.errors import says
from tests.data import files

N = 12
PLAIN = {"v": Vector(normalize=False)}
RATE = 8000


def numbered(count=N, **extra):
    """Columns whose `v` is the row's number."""
    return {"v": [float(i) for i in range(count)], **extra}


def table(count=N, target=None, seed=0, extra=None, **kwargs):
    return mk.data.table(numbered(count, **(extra or {})), PLAIN, target, seed=seed, **kwargs)


def flat(batches):
    return [row for batch in batches for row in batch]


# Order of training


def test_every_row_once_an_epoch_in_a_new_order():
    batches = files.ids(table().train(4).repeat(60))
    epochs = [batches[start : start + 3] for start in range(0, 180, 3)]
    for batches in epochs:
        assert [len(batch) for batch in batches] == [4, 4, 4]
        assert sorted(flat(batches)) == list(range(N))
    orders = {tuple(flat(batches)) for batches in epochs}
    assert len(orders) == 60  # no order comes twice
    first = np.bincount([row for batches in epochs for row in batches[0]], minlength=N)
    assert first.min() >= 8 and first.max() <= 34  # each row leads in about 20 of the 60


def test_the_order_is_a_function_of_seed_and_epoch_alone():
    def orders(seed, count=3):
        train = table(seed=seed).train(4)
        return [files.ids(train) for _ in range(count)]

    tf.random.set_seed(1)
    expected = orders(0)
    tf.random.set_seed(2)  # TensorFlow's global seed is without effect
    assert orders(0) == expected
    assert orders(0, count=2) == expected[:2]
    assert orders(1)[0] != expected[0]
    assert orders(2**31)[0] != orders(1)[0]
    assert files.ids(table().train(4).repeat(3)) == flat(expected)


def test_an_unfinished_epoch_changes_nothing_of_the_next():
    whole, part = table().train(4), table().train(4)
    expected = [files.ids(whole) for _ in range(2)]
    next(iter(part))
    assert files.ids(part) == expected[1]


def test_what_fills_no_batch_is_left_out_and_differs():
    train = table().train(5)
    assert train.cardinality() == 2
    left = set()
    for _ in range(8):
        batches = files.ids(train)
        assert [len(b) for b in batches] == [5, 5]
        assert len(set(flat(batches))) == 10
        left |= set(range(N)) - set(flat(batches))
    assert len(left) > 4


def test_without_shuffle_the_rows_are_in_order():
    train = table().train(4, shuffle=False)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert files.ids(train) == expected == files.ids(train)


def test_full_batches_have_a_static_size_and_a_known_number():
    data = table(target="y", extra={"y": list("ab" * 6)})
    train = data.train(4)
    x, y = train.element_spec
    assert x["v"].shape == (4, 1) and x["v_mask"].shape == (4,) and y["y"].shape == (4,)
    assert x["v"].dtype == tf.float32 and x["v_mask"].dtype == tf.bool
    assert train.cardinality() == 3
    assert data.batches("train", 5).cardinality() == 3
    assert len(table().train(4).element_spec) == 1  # without a target: (x,)


# Batches of the other splits


@pytest.mark.parametrize(("rows", "size"), [(12, 5), (11, 5), (10, 10), (10, 3), (7, 100), (1, 1)])
def test_batches_cover_every_row_once_in_order_and_evenly(rows, size):
    data = table(valid=numbered(rows), test=numbered(3))
    batches = files.ids(data.valid(size))
    assert flat(batches) == list(range(rows))
    sizes = [len(b) for b in batches]
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-rows // size) == data.valid(size).cardinality()
    assert flat(files.ids(data.test(2))) == [0, 1, 2]
    assert files.ids(data.batches("train", N)) == [list(range(N))]


def test_shards_are_parts_of_every_global_batch():
    data = table(11)
    whole = files.ids(data.batches("train", 4))
    parts = [files.ids(data.batches("train", 4, shard=(i, 3))) for i in range(3)]
    assert [flat(batch) for batch in zip(*parts, strict=True)] == whole
    assert all(parts) and all(part for reader in parts for part in reader)
    stream = files.ids(data.train(6).stream().take(4))
    readers = [files.ids(data.train(6, shard=(i, 2)).stream().take(4)) for i in range(2)]
    assert [flat(batch) for batch in zip(*readers, strict=True)] == stream
    assert files.ids(data.train(6).stream(shard=(1, 2)).take(4)) == readers[1]
    assert files.ids(data.batches("train", 4).part((2, 3))) == parts[2]


def test_shard_errors():
    data = table(3)
    for wrong in ((1, 1), (-1, 2), (0, 0)):
        with says(ValueError, "0 <= i < n", f"Received: {wrong}"):
            data.batches("train", 1, shard=wrong)
        with says(ValueError, "0 <= i < n", f"Received: {wrong}"):
            data.train(1, shard=wrong)
    with says(ValueError, "Every reader needs a row", "batches of 3 rows of 'train' for 4 readers"):
        data.batches("train", 9, shard=(3, 4))
    with says(ValueError, "divide evenly over 2 readers", "Received: batch_size=3"):
        data.train(3, shard=(0, 2))


# The stream that `fit` reads


def test_the_stream_is_addressed_by_the_global_step():
    train = table(11).train(3)
    whole = files.ids(train.stream().take(10))
    assert train.steps == train.cardinality() == 3
    for first in (0, 1, 3, 5, 9):
        assert files.ids(train.stream(first).take(10 - first)) == whole[first:]
    epochs = [sorted(flat(whole[3 * e : 3 * e + 3])) for e in range(3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(flat(whole[3 * e : 3 * e + 3])) for e in range(3)}) == 3
    # However often it has been read.
    assert files.ids(train.stream().take(10)) == whole
    assert files.ids(table(11).train(3).stream().take(10)) == whole
    assert files.ids(table(11, seed=1).train(3).stream().take(10)) != whole


def test_the_stream_augments_alike_from_any_step():
    pictures = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    spec = {"picture": mk.Image(size=16, augment={"translate": {"fraction": 0.4}})}
    train = mk.data.table({"picture": list(pictures)}, spec, seed=4).train(4)
    whole = [x["picture"] for (x,) in train.stream().take(5).as_numpy_iterator()]
    later = [x["picture"] for (x,) in train.stream(3).take(2).as_numpy_iterator()]
    np.testing.assert_array_equal(later, whole[3:])
    assert not any((picture == whole[0]).all() for picture in whole[1:])


# Validation as a fraction


def test_a_fraction_is_disjoint_and_of_its_size():
    data = table(40, valid=0.25, target="y", extra={"y": [i % 3 for i in range(40)]})
    train, valid = (flat(files.ids(data.batches(s, 7))) for s in ("train", "valid"))
    assert len(valid) == 10 and sorted(train + valid) == list(range(40))
    assert train == sorted(train) and valid == sorted(valid)
    assert valid != list(range(10)) and valid != list(range(30, 40))
    for split, rows in (("train", train), ("valid", valid)):  # the truth goes with its row
        assert [int(data.classes[t]) for t in data.splits[split].truth["y"]] == [
            row % 3 for row in rows
        ]

    def held(seed):
        return flat(files.ids(table(40, valid=0.25, seed=seed).valid(40)))

    assert held(0) == valid and held(1) != valid


def test_groups_stay_together():
    groups = [f"g{i % 8}" for i in range(40)]
    data = table(40, valid=0.25, group="g", extra={"g": groups})
    train, valid = (flat(files.ids(data.batches(s, 40))) for s in ("train", "valid"))
    assert {groups[i] for i in train}.isdisjoint(groups[i] for i in valid)
    assert len(valid) == 10 and len({groups[i] for i in valid}) == 2


def test_a_fraction_leaves_rows_on_both_sides():
    for fraction in (0.01, 0.5, 0.99):
        data = table(3, valid=fraction)
        assert len(data.splits["train"]) >= 1 and len(data.splits["valid"]) >= 1
    with says(ValueError, "at least two rows (or groups)", "Received: 1", "`valid=`"):
        table(4, valid=0.5, group="g", extra={"g": ["a"] * 4})
    for wrong in (0.0, 1.0, 1.5, -0.1):
        with says(ValueError, "must lie in (0, 1)", f"Received: {wrong}"):
            table(4, valid=wrong)


# Targets


def test_label_classes_are_ordered_as_numbers_first():
    data = table(6, "y", extra={"y": ["10", "2", "-1", "b", "a", "2"]})
    assert data.classes == ("-1", "2", "10", "a", "b")
    assert data.targets["y"] == Label(classes=("-1", "2", "10", "a", "b"))
    truth = data.splits["train"].truth["y"]
    assert truth.dtype == np.int32 and truth.tolist() == [2, 1, 0, 4, 3, 1]
    ((_, y),) = files.numpy(data.batches("train", 6))
    assert y["y"].dtype == np.int32 and y["y"].tolist() == truth.tolist()


def test_labels_from_numbers_and_odd_names():
    assert table(4, "y", extra={"y": [10, 2.0, 2, 10.0]}).classes == ("2", "10")
    assert table(4, "y", extra={"y": np.array([3, 1, 2, 1])}).classes == ("1", "2", "3")
    assert table(3, "y", extra={"y": ["²", "--1", "1"]}).classes == ("1", "--1", "²")
    assert table(2, "y", extra={"y": [True, False]}).classes == ("False", "True")


def test_classes_come_from_the_training_rows_or_the_spec():
    valid = numbered(2, y=["a", "b"])
    data = table(3, "y", extra={"y": ["b", "c", "a"]}, valid=valid)
    assert data.classes == ("a", "b", "c")
    assert data.splits["valid"].truth["y"].tolist() == [0, 1]
    given = {"y": Label(classes=["c", "b", "a"])}
    data = table(2, given, extra={"y": ["b", "b"]}, valid=valid)
    assert data.classes == ("c", "b", "a")
    assert data.splits["valid"].truth["y"].tolist() == [2, 1]


def test_labels_are_multi_hot():
    extra = {"tags": ["b|a", "a", "", " c | a ", None], "list": [["x"], [], ["y", "x"], None, "y"]}
    data = table(5, {"tags": Labels(), "list": Labels(separator=";")}, extra=extra)
    assert data.targets["tags"].classes == ("a", "b", "c")
    assert data.targets["list"].classes == ("x", "y")
    truth = data.splits["train"].truth
    assert truth["tags"].dtype == np.float32
    assert truth["tags"].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert truth["list"].tolist() == [[1, 0], [0, 0], [1, 1], [0, 0], [0, 1]]
    assert table(2, {"y": Labels()}, extra={"y": [3, 4]}).targets["y"].classes == ("3", "4")


def test_number_and_several_targets():
    extra = {"score": ["1.5", 2, np.float32(-3)], "kind": ["a", "b", "a"], "other": [1, 2, 3]}
    data = table(3, {"score": Number(), "kind": Label()}, extra=extra)
    ((_, y),) = files.numpy(data.batches("train", 3))
    assert list(y) == ["score", "kind"]
    assert y["score"].dtype == np.float32 and y["score"].tolist() == [1.5, 2, -3]
    assert data.classes == ("a", "b")  # of the only target that has any
    several = table(3, ["kind", "other"], extra=extra)
    assert several.splits["train"].truth["other"].tolist() == [0, 1, 2]
    with says(ValueError, "exactly one target with classes", "Received: 2", "data.targets['name']"):
        _ = several.classes
    with says(ValueError, "exactly one target with classes", "Received: 0"):
        _ = table(3).classes


def test_columns_map_modalities_and_targets():
    columns = {"a": [0.0, 1.0], "b": [5.0, 6.0], "answer": ["x", "y"]}
    data = mk.data.table(
        columns,
        {"v": Vector(size=2, normalize=False)},
        "label",
        columns={"v": ["b", "a"], "label": "answer"},
    )
    ((x, y),) = files.numpy(data.batches("train", 2))
    assert x["v"].tolist() == [[5, 0], [6, 1]]
    assert data.classes == ("x", "y") and y["label"].tolist() == [0, 1]


# Splits as data


def test_take():
    data = table(6, "y", extra={"y": list("ababab")}, valid=numbered(3, y=list("aba")))
    some = data.take("train", np.array([4, 0, 4]))
    assert files.ids(some.batches("train", 9)) == [[4, 0, 4]]
    assert some.splits["train"].truth["y"].tolist() == [0, 0, 0]
    assert len(some.splits["train"]) == 3 and len(data.splits["train"]) == 6
    assert files.ids(some.valid(9)) == [[0, 1, 2]]
    assert some.modalities == data.modalities and some.targets == data.targets
    assert sorted(flat(files.ids(some.train(3)))) == [0, 4, 4]


def everything(rng):
    """Columns and specs of every kind in every form, with absent items; 4 rows."""
    pictures = [rng.integers(0, 256, (9, 8, 3)).astype("uint8") for _ in range(3)]
    pcm = [rng.integers(-30000, 30000, n) for n in (100, 200, 300)]
    columns = {
        "photo": [files.encode(p) for p in pictures] + [None],
        "array": [pictures[0], None, pictures[1], pictures[0]],
        "sound": [None, *(files.wav(p) for p in pcm)],
        "wave": [(p / 32768).astype("float32") for p in pcm] + [None],
        "words": ["a b", "", "c a", None],
        "v": [[1.0, 2.0], [3.0, 5.0], None, [0.1, 0.2]],
    }
    sound = Audio(rate_hz=RATE, seconds=0.03)
    specs = {
        "photo": Image(size=4),
        "array": Image(size=(9, 8)),
        "sound": sound,
        "wave": sound,
        "words": Text(length=3),
        "v": Vector(size=2),
    }
    return columns, specs


def test_cache_gives_the_same_batches_bit_for_bit(rng, tmp_path):
    columns, specs = everything(rng)
    path = tmp_path / "p.png"
    path.write_bytes(columns["photo"][0])
    columns["photo"] = [str(path), "", str(path), str(path)]
    specs["photo"] = Image(size=4, augment={"brightness": {}})
    del specs["wave"]
    data = mk.data.table(columns, specs, valid=columns)
    train, valid, rows = files.numpy(data.train(2)), files.numpy(data.valid(3)), [3, 0, 1]
    raw = data.raw("valid", rows)
    cached = data.cache()
    assert {c.form for c in data.splits["train"].columns.values()} == {"raw", "decoded", "path"}
    assert {c.form for c in cached.splits["train"].columns.values()} == {"decoded"}
    files.same(cached.raw("valid", rows), raw)
    path.unlink()  # batches read no file, `raw` does
    files.same(files.numpy(cached.valid(3)), valid)
    files.same(files.numpy(cached.train(2)), train)
    assert len(cached.splits["train"].columns["photo"].items) == 2  # each distinct item once
    path.write_bytes(b"as it is now")
    assert cached.raw("valid", [0, 1])["photo"].tolist() == [b"as it is now", b""]
    some = cached.without("valid", "words", [0]).take("valid", np.array([0, 2]))
    assert some.raw("valid", [0, 1])["words"].tolist() == [b"", b"c a"]
    assert some.splits["valid"].columns["words"].absent().tolist() == [True, False]


def test_raw_goes_through_the_decoder_bit_for_bit(rng):
    columns, specs = everything(rng)
    data = mk.data.table(columns, specs)
    ((x,),) = files.numpy(data.batches("train", 4))
    rows = [2, 0, 3, 1]
    raw = data.raw("train", rows)
    assert list(raw) == list(specs)
    for name, spec in data.modalities.items():
        assert raw[name].dtype == (np.float32 if name == "v" else object)
        value, mask = mk.data.decoder(spec)(tf.constant(raw[name].tolist()))
        files.same(value, x[name][rows])
        files.same(mask, x[f"{name}_mask"][rows])
    assert raw["photo"][1] == columns["photo"][0]  # as it came
    assert raw["array"][1].startswith(b"\x89PNG") and raw["wave"][1].startswith(b"RIFF")
    assert raw["array"][3] == raw["wave"][2] == raw["words"][3] == b""
    assert np.isnan(raw["v"][0]).all()
    for name in specs:  # the absent rows, as declared above
        absent = [
            i for i, c in enumerate(columns[name]) if c is None or isinstance(c, str) and not c
        ]
        off = ~x[f"{name}_mask"].reshape(4, -1).any(axis=1)
        assert np.flatnonzero(off).tolist() == absent, name
        assert not x[name][absent].any()


def test_without_makes_rows_absent(rng):
    columns, specs = everything(rng)
    data = mk.data.table(columns, specs)
    ((before,),) = files.numpy(data.batches("train", 4))
    less, gone = data, {name: [i % 4, (i + 2) % 4] for i, name in enumerate(specs)}
    for name, rows in gone.items():
        less = less.without("train", name, np.array(rows))
    ((after,),) = files.numpy(less.batches("train", 4))
    for name, rows in gone.items():
        assert before[f"{name}_mask"][rows].any(), name
        assert not after[name][rows].any() and not after[f"{name}_mask"][rows].any()
        rest = [row for row in range(4) if row not in rows]
        files.same(after[name][rest], before[name][rest])
        files.same(after[f"{name}_mask"][rest], before[f"{name}_mask"][rest])
    ((again,),) = files.numpy(data.batches("train", 4))
    files.same(again, before)  # the data themselves have not changed


def test_without_takes_numbers_or_booleans():
    data = table(4)
    boolean = np.array([True, False, True, False])
    for rows in (boolean, [0, 2]):
        ((x,),) = files.numpy(data.without("train", "v", rows).batches("train", 4))
        assert x["v_mask"].tolist() == (~boolean).tolist()
    with says(ValueError, "Unknown modality 'w'", "['v']"):
        data.without("train", "w", [0])


def test_masks_given_with_arrays(rng):
    pictures = rng.integers(1, 256, (3, 4, 4, 3)).astype("uint8")
    waves = rng.uniform(0.1, 0.5, (3, 240)).astype("float32")
    waves = (np.round(waves * 32768) / 32768).astype("float32")
    wave_mask = np.ones((3, 240), bool)
    wave_mask[1, 100:] = False
    wave_mask[2, 50:60] = False
    data = mk.data.table(
        {
            "image": pictures,
            "image_mask": np.array([True, False, True]),
            "wave": waves,
            "wave_mask": wave_mask,
        },
        {"image": Image(size=4), "wave": Audio(rate_hz=RATE, seconds=0.03)},
    )
    ((x,),) = files.numpy(data.batches("train", 3))
    assert x["image_mask"].tolist() == [True, False, True]
    assert not x["image"][1].any()
    np.testing.assert_array_equal(x["image"][[0, 2]], pictures[[0, 2]])
    np.testing.assert_array_equal(x["wave_mask"], wave_mask)
    np.testing.assert_array_equal(x["wave"], np.where(wave_mask, waves, 0))
    raw = data.raw("train", [0, 1, 2])
    assert raw["image"][1] == b""
    value, mask = mk.data.decoder(data.modalities["wave"])(tf.constant(raw["wave"].tolist()))
    np.testing.assert_array_equal(value, x["wave"])  # a hole in a mask is zeros in the WAV
    assert mask.numpy().sum(axis=1).tolist() == [240, 100, 240]


def test_silence_and_black_are_real():
    quiet, black = np.zeros(100, "float32"), np.zeros((4, 4, 3), "uint8")
    data = mk.data.table(
        {"wave": [quiet, None], "image": [black, None]},
        {"wave": Audio(rate_hz=RATE, seconds=0.03), "image": Image(size=4)},
    )
    for held in (data, data.cache()):
        ((x,),) = files.numpy(held.batches("train", 2))
        assert x["wave_mask"].sum(axis=1).tolist() == [100, 0]
        assert x["image_mask"].tolist() == [True, False]


def test_pictures_of_other_sizes_are_fitted_as_files_are(rng):
    pictures = [rng.integers(0, 256, size).astype("uint8") for size in ((8, 12, 3), (6, 6, 3))]
    spec = {"image": Image(size=(4, 6), fit="crop")}
    arrays = mk.data.table({"image": pictures}, spec)
    encoded = mk.data.table({"image": [files.encode(p) for p in pictures]}, spec)
    files.same(files.numpy(arrays.batches("train", 2)), files.numpy(encoded.batches("train", 2)))
    grey = rng.integers(0, 256, (4, 6)).astype("uint8")
    ((x,),) = files.numpy(mk.data.table({"image": [grey]}, spec).batches("train", 1))
    np.testing.assert_array_equal(x["image"][0], np.dstack([grey] * 3))


def test_equal_items_are_stored_once(rng):
    photo = files.encode(rng.integers(0, 256, (4, 4, 3)).astype("uint8"))
    data = mk.data.table({"image": [photo, None, photo, photo]}, {"image": Image(size=4)})
    column = data.splits["train"].columns["image"]
    assert len(column.items) == 2 and column.index.tolist() == [0, 1, 0, 0]
    assert column.absent().tolist() == [False, True, False, False]


def test_modalities_keep_their_declared_order():
    columns = {"b": [1.0, 2.0], "a": [3.0, 4.0]}
    specs = {"a": Vector(normalize=False), "b": Vector(normalize=False)}
    for names in (("a", "b"), ("b", "a")):
        data = mk.data.table(columns, {n: specs[n] for n in names})
        assert list(data.modalities) == list(names)
        assert [n for n in data.train(1).element_spec[0] if n in specs] == list(names)
