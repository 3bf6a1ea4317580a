"""Series and sequences of vectors: cells, masks, resampling, statistics, and what is refused."""

import zipfile

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Series, Vector
from mmkeras.data import decoder
from tests.core.errors import says
from tests.data import files

T, C = 5, 2
PLAIN = Series(steps=T, channels=C, normalize=False)
VECTORS = Vector(size=C, steps=T, normalize=False)
BOTH = pytest.mark.parametrize("spec", [PLAIN, VECTORS], ids=lambda s: s.kind)


def cell(rng, steps=T):
    return rng.standard_normal((steps, C)).astype("float32")


def batch(data, split="train"):
    x = files.numpy(data.batches(split, 100))[0][0]
    return x["s"], x["s_mask"]


def table(cells, spec=PLAIN, **kwargs):
    return mk.data.table({"s": cells}, {"s": spec}, **kwargs)


@BOTH
def test_longer_are_cut_shorter_padded_gaps_masked(spec, rng):
    long, short, gap = cell(rng, T + 3), cell(rng, 2), cell(rng)
    gap[2, 1] = np.nan  # one number is missing: the step is not there
    value, mask = batch(table([long, short, None, gap], spec))
    assert (value.dtype, value.shape, mask.shape) == (np.float32, (4, T, C), (4, T))
    np.testing.assert_array_equal(value[0], long[:T])
    np.testing.assert_array_equal(value[1, :2], short)
    real = [[1] * 5, [1, 1, 0, 0, 0], [0] * 5, [1, 1, 0, 1, 1]]
    np.testing.assert_array_equal(mask, np.array(real, bool))
    assert not value[~mask].any()
    np.testing.assert_array_equal(value[3, mask[3]], gap[mask[3]])


@BOTH
def test_every_form_of_a_cell(spec, rng, tmp_path):
    arrays = [cell(rng, n) for n in (T, 3, 4)]
    expected = batch(table(arrays, spec))
    np.save(tmp_path / "0.npy", arrays[0])
    np.save(tmp_path / "1.npy", arrays[1].astype("float64"))
    lines = "\n".join(",".join(map(repr, row.tolist())) for row in arrays[2])
    (tmp_path / "2.csv").write_text("x,y\n" + lines + "\n")
    (tmp_path / "rows.csv").write_text("s\n0.npy\n1.npy\n2.csv\n")
    files.same(batch(mk.data.table(tmp_path / "rows.csv", {"s": spec})), expected)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("0.npy", "1.npy", "2.csv"):
            archive.write(tmp_path / name, name)
    cells = ["0.npy", "1.npy", "2.csv"]
    files.same(batch(table(cells, spec, archive=tmp_path / "all.zip")), expected)
    files.same(batch(table([a.tolist() for a in arrays], spec)), expected)
    masks = [np.ones(len(a), bool) for a in arrays]
    masks[0][1] = False
    held = mk.data.table({"s": arrays, "s_mask": masks}, {"s": spec})
    assert batch(held)[1][0].tolist() == [True, False, True, True, True]


def test_a_file_that_many_rows_name_is_held_once(rng, tmp_path):
    np.save(tmp_path / "a.npy", cell(rng))
    data = table(["a.npy", None, "a.npy"], root=tmp_path)
    assert len(data.splits["train"].columns["s"].items) == 2
    assert batch(data)[1].any(axis=1).tolist() == [True, False, True]


def test_a_csv_file_has_gaps_where_cells_are_empty(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,\n,\n4,5\n")
    value, mask = batch(table(["a.csv"], root=tmp_path))
    assert mask[0].tolist() == [True, False, False, True, False]
    assert value[0, [0, 3]].tolist() == [[1, 2], [4, 5]]


def test_one_channel_may_be_flat():
    value, mask = batch(table([np.arange(3.0)], PLAIN.replace(channels=1)))
    assert value[0, :, 0].tolist() == [0, 1, 2, 0, 0] and mask.sum() == 3


@BOTH
def test_mean_and_scale_are_those_of_the_real_steps_of_the_training_rows(spec, rng):
    parts = [cell(rng, n) * 3 + 7 for n in (T, 2, 4)]
    parts[0][:, 1] = parts[1][:, 1] = parts[2][:, 1] = 1e7 + 1  # constant
    data = table(parts, spec.replace(normalize=True), valid={"s": [cell(rng) + [0, 1e7]]})
    learnt = data.modalities["s"]
    every = np.concatenate(parts).astype("float64")
    np.testing.assert_allclose(learnt.mean, every.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(learnt.scale, (every[:, 0].std(), 1.0), rtol=1e-12)
    value, mask = batch(data)
    expected = (every - learnt.mean) / learnt.scale
    np.testing.assert_allclose(value[mask][:, 0], expected[:, 0], atol=1e-5)
    assert not value[~mask].any()


@pytest.mark.parametrize(("source", "target"), [(50, 20), (20, 50), (30, 100), (3, 3), (1, 0.4)])
def test_resampling_against_numpy(source, target, rng):
    spec = Series(
        steps=9, channels=C, rate_hz=target, source_rate_hz=source, mean=(1, 2), scale=(3, 4)
    )
    lengths = (40, 7, 1)
    parts = [cell(rng, n) for n in lengths]
    value, mask = batch(table(parts, spec))
    seconds = np.arange(9) / target
    for row, part in enumerate(parts):
        own = np.arange(len(part)) / source
        real = seconds <= own[-1] + 1e-9
        np.testing.assert_array_equal(mask[row], real)
        for channel in range(C):
            line = np.interp(seconds[real], own, part[:, channel])
            line = (line - spec.mean[channel]) / spec.scale[channel]
            np.testing.assert_allclose(value[row, real, channel], line, atol=2e-6)


def test_resampling_reads_over_no_gap(rng):
    part = cell(rng, 6)
    part[2] = np.nan
    spec = PLAIN.replace(steps=9, rate_hz=20, source_rate_hz=10)
    value, mask = batch(table([part], spec))
    assert mask[0].tolist() == [True, True, True, False, False, False, True, True, True]
    assert not value[~mask].any()
    np.testing.assert_allclose(value[0, 1], (part[0] + part[1]) / 2, rtol=1e-6)


@BOTH
def test_raw_decoder_cache_take_without(spec, rng, tmp_path):
    data = table([cell(rng), cell(rng, 2), None, cell(rng, 3)], spec)
    value, mask = batch(data)
    raw = data.raw("train", [1, 2])["s"]
    assert raw.dtype == np.float32 and np.isnan(raw[1]).all() and np.isnan(raw[0, 2:]).all()
    decode = decoder(data.modalities["s"])
    for more in (raw, np.pad(raw, ((0, 0), (0, 3), (0, 0)), constant_values=np.nan), raw[:, :2]):
        files.same([t.numpy() for t in decode(tf.constant(more))], [value[1:3], mask[1:3]])
    for cached in (data.cache(), data.cache(tmp_path)):
        files.same(batch(cached), (value, mask))
        np.testing.assert_array_equal(cached.raw("train", [1, 2])["s"], raw)
        assert not batch(cached.without("train", "s", [0]))[1][0].any()
    files.same(batch(data.take("train", np.array([3, 0]))), (value[[3, 0]], mask[[3, 0]]))
    absent = batch(data.without("train", "s", [0, 3]))
    assert absent[1].any(axis=1).tolist() == [False, True, False, False]


def test_check_reports(rng):
    parts = [cell(rng, 3), None, cell(rng)[:, :1], np.full((2, C), np.nan), cell(rng)]
    report = mk.data.check({"s": parts}, {"s": PLAIN}, valid={"s": [parts[0]]})
    assert report.missing["train"] == {"s": 2} and list(report.unreadable["train"]["s"]) == [3]
    assert report.duplicates[("train", "valid")] == {"s": 1, "row": 1}


@BOTH
def test_bad_cells_are_named(spec, rng, tmp_path):
    good, infinite = cell(rng), cell(rng)
    infinite[3, 1] = np.inf
    (tmp_path / "text.csv").write_text("x,y\n1,2\n3,four\n")
    (tmp_path / "ragged.csv").write_text("1,2\n3\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.npy").write_bytes(b"no array")
    rule = f"must be an array (steps, {C}), a row per step with {C} numbers, as declared."
    for bad, *parts in (
        (rng.standard_normal((T, C + 1)), rule, "Received: shape (5, 3)"),
        (np.zeros((0, C)), rule, "Received: shape (0, 2)"),
        (np.zeros(T), rule, "Received: shape (5,)"),
        (infinite, "has infinity at step 3, channel 1"),
        ([["a", "b"]], "must hold numbers. Received: str"),
        ("text.csv", "text.csv: line 3 must hold numbers", "'four'"),
        ("ragged.csv", "ragged.csv: every line must have 2 cells", "Received: 1 in line 2"),
        ("empty.csv", "empty.csv: " + rule),
        ("broken.npy", "broken.npy: "),
        ("absent.npy", "absent.npy: ", "No such file"),
        ("a.mat", "a.mat: a series must be a .npy or .csv file, or an array"),
    ):
        where = (
            "1 item(s) of 's' in the train rows",
            "row 2 of the given columns",
            "on_bad='mask'",
        )
        with says(ValueError, *parts, *where):
            table([good, bad], spec, root=tmp_path)
        with pytest.warns(UserWarning, match="1 of 2 items of 's'"):
            data = table([good, bad], spec, root=tmp_path, on_bad="mask")
        assert list(data.bad["train"]["s"]) == [2]
        assert batch(data)[1].any(axis=1).tolist() == [True, False]


def test_more_that_is_refused(rng):
    with says(ValueError, "A Series needs at least one step in the training rows", "normalize=Fal"):
        table([None, None], PLAIN.replace(normalize=True))
    with says(TypeError, "must be one column, whose cells hold sequences", "['a', 'b']"):
        mk.data.table({"a": [1], "b": [2]}, {"s": VECTORS}, columns={"s": ["a", "b"]})
    with says(ValueError, "the mask must be a bool array with one entry per step", "(3,)"):
        mk.data.table({"s": [cell(rng)], "s_mask": [np.ones(3, bool)]}, {"s": PLAIN})
    with says(ValueError, "`rate_hz` what to", "source_rate_hz=50.0", "Give both"):
        Series(source_rate_hz=50)
    with says(ValueError, "`mean` must hold `channels`=2 numbers", "Received: 3"):
        Series(channels=2, mean=(1, 2, 3))
