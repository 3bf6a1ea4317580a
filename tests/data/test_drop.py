"""Modality dropout: its rates, the rule, single samples, schedules, positions, readers, errors."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import drop as dropout
from tests.core.errors import says

COUNT, NAMES = 60, ("text", "numbers", "photo")
SPECS = {
    "text": mk.Text(length=6),
    "numbers": mk.Vector(size=2, normalize=False),
    "photo": mk.Image(size=4, augment={"flip": {}}),
}
MORE = {
    "cells": mk.Table(numeric=("a", "b")),
    "sound": mk.Audio(rate_hz=1000, seconds=0.05),
    "steps": mk.Series(steps=3, channels=1),
    "photos": mk.Several(mk.Image(size=4), count=2),
}
RATES = {"text": 0.5, "numbers": 0.25, "photo": 0.75}


def rows(count=COUNT):
    """Row i says i in "numbers", which every row has; every 7th has nothing else."""
    rng = np.random.default_rng(0)
    photos = list(rng.integers(1, 256, (count, 4, 4, 3)).astype("uint8"))
    bare = [i % 7 == 0 for i in range(count)]
    return {
        "text": [None if b else "w " * (1 + i % 5) for i, b in enumerate(bare)],
        "numbers": [[i + 1.0, 1.0] for i in range(count)],
        "photo": [None if b else p for p, b in zip(photos, bare, strict=True)],
        "row": [float(i) for i in range(count)],
        "label": ["xyz"[i % 3] for i in range(count)],
    }


@pytest.fixture(scope="module")
def data():
    targets = {"row": mk.Number(), "label": mk.Label()}
    return mk.data.table(rows(), SPECS, targets, test=rows(), seed=3)


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    folder = mk.data.write_shards(data, tmp_path_factory.mktemp("s") / "s", rows_per_shard=8)
    return mk.data.shards(folder, seed=3, pool_shards=3)


@pytest.fixture(params=["data", "shards"])
def source(request):
    return request.getfixturevalue(request.param)


def arrays(dataset):
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]


def assert_same(found, expected):
    tf.nest.assert_same_structure(found, expected)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def here(x):
    """(B, M): which modalities the samples of a batch have."""
    return np.stack([x[f"{m}_mask"].reshape(len(x[m]), -1).any(axis=1) for m in NAMES], axis=1)


# The rule ---------------------------------------------------------------------------------------


def dropped(here, rates, drawn):
    return dropout.dropped(
        tf.constant(here), tf.constant(rates, tf.float32), tf.constant(drawn, tf.float32)
    ).numpy()


@pytest.mark.parametrize(
    ("has", "rates"),
    [
        ((1, 1, 1), (0.3, 0.6, 0.9)),
        ((1, 1, 1), (0.5, 0.5, 0.5)),
        ((1, 1, 0), (0.7, 0.2, 0.9)),
        ((0, 1, 1), (0.1, 0.9, 0.9)),
        ((1, 1, 1), (0.4, 1.0, 0.8)),
    ],
)
def test_every_pattern_has_the_probability_that_the_rule_says(rng, has, rates):
    """All 2^3 patterns, counted in 40,000 samples, within 4.5 deviations of a binomial."""
    count, kept = 40_000, {i for i, h in enumerate(has) if h}
    lost = dropped(np.tile(np.array(has, bool), (count, 1)), rates, rng.random((count, 3)))
    expected = {}
    for code in range(8):
        gone = frozenset(i for i in range(3) if code >> i & 1)
        if gone <= kept:
            chance = np.prod([rates[i] if i in gone else 1 - rates[i] for i in kept])
            can = [i for i in kept if rates[i] < 1] if gone == kept else []
            for stays in can or [None]:
                what = gone - {stays}
                expected[what] = expected.get(what, 0.0) + chance / max(len(can), 1)
    assert sum(expected.values()) == pytest.approx(1.0)
    for what, chance in expected.items():
        pattern = [i in what for i in range(3)]
        found = (lost == pattern).all(axis=1).sum()
        bound = 4.5 * np.sqrt(count * chance * (1 - chance))
        assert abs(found - count * chance) <= bound, (what, found / count, chance)
    below = [i for i in kept if rates[i] < 1]
    all_lost = np.prod([rates[i] for i in kept])
    for i in below:  # the formula of the docstring
        total = sum(p for what, p in expected.items() if i in what)
        assert total == pytest.approx(rates[i] - all_lost / len(below))


def test_what_a_sample_has_alone_stays_unless_the_rate_is_one(rng):
    alone = np.eye(3, dtype=bool)
    drawn = rng.random((3, 3))
    assert not dropped(alone, (0.999, 0.999, 0.999), drawn).any()
    assert (
        dropped(alone, (1.0, 0.5, 1.0), drawn).tolist() == np.diag([1, 0, 1]).astype(bool).tolist()
    )
    assert dropped(np.ones((3, 3), bool), (1.0, 1.0, 1.0), drawn).all()
    nothing = dropped(np.zeros((3, 3), bool), (0.5, 0.0, 1.0), drawn)
    assert not nothing.any()


def test_what_is_missing_at_a_rate_is_missing_at_a_higher_one(rng):
    drawn, has = rng.random((500, 4)), rng.random((500, 4)) < 0.8
    lost = [dropped(has, (rate,) * 4, drawn) for rate in np.linspace(0, 1, 11)]
    for less, more in zip(lost, lost[1:], strict=False):
        assert not (less & ~more).any() and (more & ~less).any()


# In a pipeline ----------------------------------------------------------------------------------


def test_single_samples_lose_what_then_is_as_if_never_there(source):
    """Per sample: rows of one batch lose different modalities; the rest keeps every bit."""
    plain = arrays(source.train(20).stream().take(24))
    found = arrays(source.train(20, drop=RATES).stream().take(24))
    had, lost = [], []
    for (x, y), (old, truth) in zip(found, plain, strict=True):
        assert_same(y, truth)
        before, after = here(old), here(x)
        gone = before & ~after
        assert not (after & ~before).any() and after.any(axis=1).all()
        assert len({tuple(g) for g in gone}) > 1
        for place, name in enumerate(NAMES):
            kept = ~gone[:, place]
            for key in (name, f"{name}_mask"):
                np.testing.assert_array_equal(x[key][kept], old[key][kept])
                assert not x[key][~kept].any()
        had.append(before)
        lost.append(gone)
    had, lost = np.concatenate(had), np.concatenate(lost)
    whole, rates = had.all(axis=1), np.array([RATES[m] for m in NAMES])
    rates -= rates.prod() / len(rates)
    assert len({tuple(g) for g in lost}) == 7  # all but everything
    assert whole.any() and not lost[~whole].any()  # with the numbers alone nothing goes
    count = whole.sum()
    bound = 4.5 * np.sqrt(rates * (1 - rates) / count)
    assert (np.abs(lost[whole].mean(axis=0) - rates) <= bound).all()


def test_dropped_is_encoded_as_absent(rng):
    """Of every kind, what is dropped is what the pipeline makes of rows without it."""
    held = {
        **rows(6),
        "a": [1.0, 2.0, 3.5] * 2,
        "b": [0.5, 1.5, -1.0] * 2,
        "sound": list(rng.uniform(-1, 1, (6, 50)).astype("float32")),
        "steps": list(rng.standard_normal((6, 3, 1)).astype("float32")),
        "photos": [list(rng.integers(1, 256, (2, 4, 4, 3)).astype("uint8"))] * 6,
    }
    whole = mk.data.table(held, {**SPECS, **MORE}, test=held)
    ((x,),) = arrays(whole.test(6, drop={name: 1.0 for name in whole.modalities}))
    absent = whole
    for name in whole.modalities:
        absent = absent.without("test", name, np.arange(6))
    ((expected,),) = arrays(absent.test(6))
    assert_same(x, expected)
    assert all(value.any() for value in arrays(whole.test(6))[0][0].values())


def test_a_batch_is_a_function_of_seed_and_step(source):
    ramp = {"text": mk.data.Ramp(0.0, 0.8, steps=7), "photo": 0.4}
    train = source.train(10, drop=ramp)
    whole = arrays(train.stream().take(14))
    for first in (1, 6, 11):  # in the first and the second epoch, on the ramp and behind it
        assert_same(arrays(train.stream(first).take(3)), whole[first : first + 3])
    assert_same(arrays(source.train(10, drop=ramp).stream(4).take(2)), whole[4:6])
    other = arrays(source.train(10, drop={**ramp, "photo": 0.0}).stream().take(3))
    for (x, _), (y, _) in zip(other, whole, strict=False):
        np.testing.assert_array_equal(x["text_mask"], y["text_mask"])  # drawn by itself
        assert x["photo_mask"].sum() > y["photo_mask"].sum()


def test_readers_drop_as_one_does(source):
    train = source.train(10, drop={"text": mk.data.Ramp(0.2, 0.8, steps=9), "photo": 0.4})
    whole = arrays(train.stream(2).take(6))
    parts = [arrays(train.stream(2, (i, 2)).take(6)) for i in (0, 1)]
    assert_same(tf.nest.map_structure(lambda *t: np.concatenate(t), *parts), whole)
    test = source.test(20, drop=RATES)
    parts = [arrays(test.part((i, 2))) for i in (0, 1)]
    assert_same(tf.nest.map_structure(lambda *t: np.concatenate(t), *parts), arrays(test))


def test_a_ramp_follows_the_global_step_and_begins_anew_by_hand(source):
    train = source.train(COUNT, drop={"text": mk.data.Ramp(0.0, 1.0, steps=4)})
    left = [x["text_mask"].any(axis=1).sum() for x, _ in arrays(train.stream().take(6))]
    assert train.steps == 1 and left[0] == 51 and left[4:] == [0, 0]
    for number, rate in ((1, 0.25), (2, 0.5), (3, 0.75)):
        assert abs(left[number] - 51 * (1 - rate)) <= 4 * np.sqrt(51 * rate * (1 - rate))
    for _ in range(2):
        ((x, _),) = arrays(train)
        assert x["text_mask"].any(axis=1).sum() == 51
    values = [float(mk.data.Ramp(0.4, 0.1, steps=3).at(step)) for step in (0, 1, 2, 3, 10**12)]
    np.testing.assert_allclose(values, [0.4, 0.3, 0.2, 0.1, 0.1], atol=1e-6)


def test_an_evaluation_misses_the_same_whatever_the_batch(data, shards):
    ((x, y),) = arrays(data.test(COUNT, drop=0.5))
    assert y["row"].tolist() == list(range(COUNT))
    patterns = here(x)
    assert patterns.any(axis=1).all() and len({tuple(p) for p in patterns}) > 4
    for source in (data, shards):
        for size in (7, 23, COUNT):
            batches = arrays(source.test(size, drop=0.5))
            assert_same(tf.nest.map_structure(lambda *t: np.concatenate(t), *batches), (x, y))
            assert len(source.test(size, drop=0.5)) == len(batches)
    ((more, _),) = arrays(data.test(COUNT, drop=0.7))
    assert not (here(more) & ~patterns).any()
    ((nothing, _),) = arrays(data.test(COUNT, drop=1.0))
    assert not any(value.any() for value in nothing.values())


def test_after_mixup_and_before_the_cut_of_buckets():
    held = rows()
    specs = {"numbers": SPECS["numbers"], "photo": SPECS["photo"]}
    both = mk.data.table(held, specs, "label")
    mix = {"mixup": {"alpha": 1.0}}
    plain = arrays(both.train(20, mix=mix).stream().take(3))
    found = arrays(both.train(20, mix=mix, drop={"photo": 0.5}).stream().take(3))
    for (x, y), (old, truth) in zip(found, plain, strict=True):
        assert_same(y, truth)  # a pair is mixed as without, and then loses
        np.testing.assert_array_equal(x["numbers"], old["numbers"])
        kept = x["photo_mask"]
        np.testing.assert_array_equal(x["photo"][kept], old["photo"][kept])
        assert kept.sum() < old["photo_mask"].sum() and not x["photo"][~kept].any()
    specs = {"numbers": SPECS["numbers"], "text": SPECS["text"]}
    texts = mk.data.table(held, specs, "row")
    for options, lengths in (({}, {2, 4, 6}), ({"drop": {"text": 1.0}}, {2})):
        batches = arrays(texts.train(6, buckets={"text": (2, 4)}, **options).stream().take(10))
        assert {x["text"].shape[1] for x, _ in batches} == lengths
        plain = arrays(texts.train(6, buckets={"text": (2, 4)}).stream().take(10))
        for one, other in zip(batches, plain, strict=True):
            np.testing.assert_array_equal(one[0]["numbers"], other[0]["numbers"])


def test_a_mixture_drops_from_every_part_what_it_has(data):
    part = mk.data.table(rows(), {"text": data.modalities["text"]}, data.targets)
    mixed = mk.data.mix({"all": data, "texts": part})
    ((x, _),) = arrays(mixed.train(40, drop={"text": 0.6, "photo": 0.6}).stream().take(1))
    ((old, _),) = arrays(mixed.train(40).stream().take(1))
    before, after = here(old), here(x)
    texts_alone = before.sum(axis=1) == 1
    np.testing.assert_array_equal(after[texts_alone], before[texts_alone])
    assert before[:, 0].sum() > after[:, 0].sum() and before[:, 2].sum() > after[:, 2].sum()
    with says(ValueError, "Unknown modality 'txt' in `drop`", "Did you mean 'text'?"):
        mixed.train(40, drop={"txt": 0.6})


@pytest.mark.parametrize(
    ("drop", "parts"),
    [
        ({"imag": 0.1}, ["Unknown modality 'imag' in `drop`", "Known: numbers, photo, text."]),
        ({"text": 1.5}, ["must lie between 0.0 and 1.0", "drop['text']=1.5", "{'text': 0.3}"]),
        ({"text": "often"}, ["drop['text']", "'often'", "mk.data.Ramp(0.0, 0.5, steps=2000)"]),
        ({"text": (0.0, 0.5)}, ["must be a number", "(0.0, 0.5)", "mk.data.Ramp"]),
        (1.0, ["one must be left to train on", "drop=1.0", "Keep a rate below 1"]),
    ],
)
def test_wrong_rates_are_refused(source, drop, parts):
    with says(ValueError, *parts):
        source.train(10, drop=drop)


def test_a_wrong_ramp_and_one_without_steps(source):
    with says(ValueError, "`last` must lie between 0.0 and 1.0", "last=1.2"):
        mk.data.Ramp(0.0, 1.2, steps=10)
    with says(ValueError, "`steps` must be a whole number", "steps=0"):
        mk.data.Ramp(0.0, 0.2, steps=0)
    with says(ValueError, "An evaluation has no steps", "drop['text']=Ramp(first=0.0", "itself"):
        source.test(10, drop={"text": mk.data.Ramp(0.0, 0.5, steps=10)})
