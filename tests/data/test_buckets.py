"""Length buckets: what is grouped, what is cut, and that position and readers stay exact."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import buckets as by_length
from tests.core.errors import says

LENGTH, COUNT = 16, 61
SPECS = {
    "text": mk.Text(length=LENGTH),
    "numbers": mk.Vector(size=1, normalize=False),
    "steps": mk.Vector(size=2, steps=10, normalize=False),
}
WORDS = {"text": (4, 8, 16)}


def rows(count=COUNT):
    """Row i has a text of 1 + 7 i % 19 words (18 and 17 are cut; 7 is absent) and i % 12 steps."""
    texts = [" ".join(["w"] * (1 + 7 * i % 19)) for i in range(count)]
    texts[7] = None
    return {
        "text": texts,
        "numbers": [[float(i)] for i in range(count)],
        "steps": [np.ones((max(i % 12, 1), 2), "float32") for i in range(count)],
        "label": ["a" if i % 2 else "b" for i in range(count)],
    }


def needed(row):
    return 0 if row == 7 else min(1 + 7 * row % 19, LENGTH)


def bucket(rows, lengths=WORDS["text"]):
    return next(held for held in lengths if held >= max(map(needed, rows)))


@pytest.fixture(scope="module")
def data():
    return mk.data.table(rows(), SPECS, "label", valid=0.1, seed=3)


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    folder = mk.data.write_shards(data, tmp_path_factory.mktemp("s") / "s", rows_per_shard=7)
    return mk.data.shards(folder, seed=3, pool_shards=3)


@pytest.fixture(params=["data", "shards"])
def source(request):
    return request.getfixturevalue(request.param)


def arrays(dataset):
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]


def numbers(batch):
    return batch[0]["numbers"][:, 0].astype(int).tolist()


def assert_same(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_are_cut_to_the_smallest_bucket_that_holds_them(source):
    train = source.train(6, buckets=WORDS)
    assert train.steps == len(train) == 55 // 6
    assert train.buckets == WORDS and train.element_spec[0]["text"].shape[1] is None
    plain = {n: b for b in arrays(source.train(1, shuffle=False)) for n in numbers(b)}
    for x, y in arrays(train):
        held = numbers((x, y))
        assert x["text"].shape == x["text_mask"].shape == (6, bucket(held))
        assert x["text_mask"].sum(axis=1).tolist() == [needed(n) for n in held]
        assert x["steps"].shape == (6, 10, 2)
        for place, number in enumerate(held):
            value, label = plain[number][0]["text"][0], plain[number][1]["label"][0]
            np.testing.assert_array_equal(x["text"][place], value[: x["text"].shape[1]])
            assert y["label"][place] == label


def test_an_epoch_has_the_rows_that_it_has_without_buckets(data):
    epochs = 4
    with_buckets, without = (
        [numbers(b) for b in arrays(data.train(6, **options).stream().take(9 * epochs))]
        for options in ({"buckets": WORDS}, {})
    )
    for epoch in range(epochs):
        one, other = (b[9 * epoch : 9 * (epoch + 1)] for b in (with_buckets, without))
        assert sorted(sum(one, [])) == sorted(sum(other, [])) and len(set(sum(one, []))) == 54
        mixed = [batch for batch in one if len({bucket([n]) for n in batch}) > 1]
        assert len(mixed) <= 2  # at most one where a bucket ends
    orders = {tuple(bucket(b) for b in with_buckets[9 * e : 9 * e + 9]) for e in range(epochs)}
    assert len(orders) == epochs and all(list(o) != sorted(o) for o in orders)  # at random
    padding = sum(6 * bucket(b) for b in with_buckets), sum(6 * bucket(b) for b in without)
    assert padding[0] < 0.85 * padding[1]


def test_shards_group_within_a_pool_and_keep_every_row(shards):
    for epoch in range(3):
        batches = [
            numbers(b) for b in arrays(shards.train(4, buckets=WORDS).stream(13 * epoch).take(13))
        ]
        seen = sum(batches, [])
        assert len(seen) == len(set(seen)) == 52
        # Of every pool of 21 rows 4 or 5 batches are of one bucket, but where two meet.
        assert sum(len({bucket([n]) for n in batch}) == 1 for batch in batches) >= 5
    files = shards.train(4, buckets=WORDS, shuffle=False)
    assert (
        sorted(sum((numbers(b) for b in arrays(files)), []))[:5]
        == sorted(sum((numbers(b) for b in arrays(shards.train(4, shuffle=False))), []))[:5]
    )


def test_a_batch_is_a_function_of_seed_and_step(source):
    train = source.train(6, buckets=WORDS)
    whole = arrays(train.stream().take(22))
    for first in (1, 8, 9, 17):
        assert_same(arrays(train.stream(first).take(3)), whole[first : first + 3])
    again = source.train(6, buckets=WORDS)
    assert_same(arrays(again.stream(4).take(2)), whole[4:6])
    assert_same(arrays(again), arrays(source.train(6, buckets=WORDS)))


def test_readers_share_every_batch(source):
    train = source.train(6, buckets=WORDS)
    whole = arrays(train.stream(2).take(9))
    parts = [arrays(train.stream(2, (i, 2)).take(9)) for i in (0, 1)]
    for batch, *halves in zip(whole, *parts, strict=True):
        assert numbers(batch) == numbers(halves[0]) + numbers(halves[1])
        for place, (x, _) in zip((0, 3), halves, strict=True):
            length = x["text"].shape[1]  # of what the reader holds, which may be shorter
            assert length == bucket(numbers((x, None))) <= batch[0]["text"].shape[1]
            np.testing.assert_array_equal(x["text"], batch[0]["text"][place : place + 3, :length])
            assert not batch[0]["text_mask"][place : place + 3, length:].any()


def test_several_modalities_and_a_last_length_that_is_left_out(data):
    train = data.train(5, buckets={"steps": [3, 6], "text": 8})
    assert train.buckets == {"steps": (3, 6, 10), "text": (8, 16)}
    found = set()
    for x, _ in arrays(train):
        ends = [m.any(axis=0).nonzero()[0].max() + 1 for m in (x["steps_mask"], x["text_mask"])]
        held = x["steps"].shape[1], x["text"].shape[1]
        assert held[0] == next(n for n in (3, 6, 10) if n >= ends[0])
        assert held[1] == (8 if ends[1] <= 8 else 16)
        found.add(held)
    assert len(found) >= 3


def test_without_shuffle_lengths_rise_and_rows_of_one_keep_their_order(data):
    held = [numbers(b) for b in arrays(data.train(6, shuffle=False, buckets=WORDS))]
    lengths = [bucket(b) for b in held]
    assert lengths == sorted(lengths)
    order = sum(held, [])
    plain = sum((numbers(b) for b in arrays(data.train(6, shuffle=False))), [])
    assert order == sorted(plain, key=lambda n: (bucket([n]), plain.index(n)))


def test_tokens_that_noise_adds_are_kept():
    noise = {"character_noise": {"rate": 1.0}}
    spec = mk.Text(length=12, tokenizer="characters", augment=noise)
    data = mk.data.table({"text": ["abcd", "bcda"] * 8}, {"text": spec})
    train = data.train(4, buckets={"text": (4, 12)}).stream().take(12)
    lengths = [(x["text"].shape[1], x["text_mask"].sum(axis=1).max()) for (x,) in arrays(train)]
    assert any(longest > 4 for _, longest in lengths)
    assert all(held == (4 if longest <= 4 else 12) for held, longest in lengths)


def test_cached_data_gives_the_same_and_validation_stays_whole(data):
    cached = data.cache().train(6, buckets=WORDS)
    assert_same(arrays(cached), arrays(data.train(6, buckets=WORDS)))
    assert {x["text"].shape[1] for x, _ in data.valid(3)} == {LENGTH}


def test_ends_and_groups():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert by_length.ends(mask).numpy().tolist() == [2, 3, 0, 4]
    code = tf.constant([2, 0, 1, 0, 2, 1, 0, 1, 0, 2, 1])
    for head, whole in ((0, slice(0, 8)), (2, slice(2, 10))):
        order = by_length.grouped(code, 4, key=tf.constant([1, 2], tf.int64), head=head).numpy()
        assert sorted(order) == list(range(11))
        fixed = [i for i in range(11) if not whole.start <= i < whole.stop]
        assert order[fixed].tolist() == fixed
        batches = sorted(sorted(code.numpy()[b]) for b in order[whole].reshape(2, 4))
        assert sum(batches, []) == sorted(code.numpy()[whole])
    assert by_length.grouped(code[:2], 4, head=3).numpy().tolist() == [0, 1]


def test_wrong_buckets_are_refused(data, shards):
    specs = {"photo": mk.Image(size=8), "sound": mk.Audio(), "v": mk.Vector(size=2), **SPECS}
    for given, words in (
        (8, ["must be a dict", "(8, 16, 32)", "Received: 8"]),
        ({"txt": (8,)}, ["Unknown modality 'txt'", "Did you mean 'text'?"]),
        ({"photo": (8,)}, ["for texts, series and", "'photo', of kind 'image'"]),
        ({"sound": (8,)}, ["'sound', of kind 'audio'", "Leave 'sound' out"]),
        ({"v": (8,)}, ["'v', of kind 'vector' without steps"]),
        ({"text": (8, 4)}, ["must rise, up to the declared 16", "(8, 4)"]),
        ({"text": (8, 32)}, ["(8, 32)", "goes to 16"]),
        ({"text": ()}, ["()"]),
        ({"text": (0, 8)}, ["buckets['text']"]),
    ):
        with says(ValueError, *words):
            by_length.checked(given, specs)
    for source in (data, shards):
        with says(ValueError, "Unknown modality 'txt'"):
            source.train(4, buckets={"txt": (8,)})
    mixed = mk.data.mix({"own": data})
    with says(ValueError, "cannot be grouped by length", "one table"):
        mixed.train(4, buckets=WORDS)
