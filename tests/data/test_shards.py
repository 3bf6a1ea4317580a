"""Shards: what is written, what is read, the exact order, and broken folders."""

import importlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from tests.data import clips, files

writing = importlib.import_module("mmkeras.data.write_shards")
SPECS = {
    "photo": mk.Image(size=(6, 5), augment={"flip": {}, "random_resized_crop": {}}),
    "text": mk.Text(length=3),
    "numbers": mk.Vector(size=2),
}
TARGETS = {"kind": mk.Label(), "tags": mk.Labels(), "height": mk.Number()}


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    photos = list(rng.integers(0, 256, (count, 6, 5, 3)).astype("uint8"))
    photos[1] = None
    return {
        "photo": photos,
        "text": [None if i == 2 else f"word{i % 4} word" for i in range(count)],
        "numbers": [[float(i), -1.0] for i in range(count)],
        "kind": ["x" if i % 2 else "y" for i in range(count)],
        "tags": ["a|b" if i % 3 else "a" for i in range(count)],
        "height": [0.5 * i for i in range(count)],
    }


@pytest.fixture(scope="module")
def data():
    return mk.data.table(rows(23), SPECS, TARGETS, valid=rows(7, seed=1), seed=5)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return mk.data.write_shards(data, tmp_path_factory.mktemp("s") / "new", rows_per_shard=4)


def arrays(dataset):
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset]


def assert_same(found, expected):
    tf.nest.assert_same_structure(found, expected)
    for one, other in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def ids(batches):
    """Which rows the batches hold, by their target."""
    return [(2 * y["height"]).astype(int).tolist() for _, y in batches]


def test_what_is_read_is_what_was_written(data, folder):
    read = mk.data.shards(folder, verify=True)
    assert (read.modalities, read.targets) == (data.modalities, data.targets)
    assert read.rows("train") == 23 and len(read.files["train"]) == 6
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "schema.json" and names[-1] == "valid-00001-of-00002.tfrecord"
    assert len(names) == 9
    for split in ("train", "valid"):
        whole = arrays(data.batches(split, 100))
        assert_same(arrays(read.batches(split, 100)), whole)
        parts = arrays(read.batches(split, 6))
        sizes = [len(y["kind"]) for _, y in parts]
        assert max(sizes) - min(sizes) <= 1 and len(read.batches(split, 6)) == len(sizes)
        assert_same(tf.nest.map_structure(lambda *t: np.concatenate(t), *parts), whole[0])


@pytest.mark.parametrize("pool_shards", [2, 100])
def test_the_order_is_a_function_of_seed_and_step(folder, pool_shards):
    read = mk.data.shards(folder, seed=3, pool_shards=pool_shards)
    train = read.train(5)
    assert train.steps == len(train) == 4
    stream = arrays(train.stream().take(12))
    epochs = [sum(ids(stream[i : i + 4]), []) for i in (0, 4, 8)]
    for epoch in epochs:
        assert len(set(epoch)) == 20  # of 23: what fills no batch is left out
    assert epochs[0] != epochs[1] != epochs[2] != sorted(epochs[2])
    for first in (3, 6):
        assert_same(arrays(train.stream(first).take(12 - first)), stream[first:])
    again = mk.data.shards(folder, seed=3, pool_shards=pool_shards).train(5)
    assert_same(arrays(again.stream(7).take(1)), stream[7:8])
    assert ids(arrays(again.stream().take(1))) == ids(stream[:1])
    other = mk.data.shards(folder, seed=4, pool_shards=pool_shards).train(5)
    assert ids(arrays(other.stream().take(4))) != ids(stream[:4])
    tf.random.set_seed(77)
    assert_same(arrays(train.stream().take(2)), stream[:2])


def test_a_pool_of_all_files_mixes_all_rows(folder):
    train = mk.data.shards(folder, pool_shards=6).train(23, augment=False)
    first = ids(arrays(train.stream().take(40)))
    assert all(sorted(epoch) == list(range(23)) for epoch in first)
    leading = {epoch[0] for epoch in first}
    assert len(leading) > 12  # any row may come first


def test_every_pass_is_an_epoch_of_its_own(folder):
    train = mk.data.shards(folder).train(5, augment=False)
    assert ids(arrays(train)) != ids(arrays(train))
    plain = mk.data.shards(folder).train(5, shuffle=False, augment=False)
    assert ids(arrays(plain)) == np.arange(20).reshape(4, 5).tolist()


def test_readers_share_every_batch(folder):
    read = mk.data.shards(folder)
    whole = ids(arrays(read.train(6).stream(2).take(3)))
    halves = [ids(arrays(read.train(6).stream(2, (i, 2)).take(3))) for i in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole
    valid = read.valid(3)
    parts = [ids(arrays(valid.part((i, 2)))) for i in (0, 1)]
    assert [a + b for a, b in zip(*parts, strict=True)] == ids(arrays(valid))
    with pytest.raises(ValueError, match="must divide evenly over 2 readers"):
        read.train(5, shard=(0, 2))
    with pytest.raises(ValueError, match="Every reader needs a row of every batch"):
        valid.part((0, 3))


def test_augmentation_is_drawn_by_step(folder):
    read = mk.data.shards(folder)
    once, twice = (arrays(read.train(8).stream().take(2)) for _ in range(2))
    assert_same(once, twice)
    plain = arrays(read.train(8, augment=False).stream().take(1))
    assert ids(plain) == ids(once[:1])
    assert not np.array_equal(plain[0][0]["photo"], once[0][0]["photo"])


def test_trained_on_shards_as_on_the_rows(data, folder, tmp_path):
    """Interrupted in the first epoch and gone on, the weights are those of one run."""

    armed = []

    def stop(batch, logs):
        if armed and batch == 3:
            raise KeyboardInterrupt

    def run(out):
        keras.utils.set_random_seed(1)
        read = mk.data.shards(folder)
        specs = {name: read.modalities[name] for name in ("numbers", "text", "photo")}
        encoders = {"photo": {"name": "cnn", "filters": (4,)}}
        heads = {
            "kind": mk.heads.Classifier(read.targets["kind"].classes),
            "tags": mk.heads.MultiLabel(read.targets["tags"].classes),
            "height": mk.heads.Regressor(),
        }
        model = mk.assemble(specs, encoders, "concatenation", heads, hidden_dim=4)
        model.compile("sgd", jit=False)
        callbacks = [
            mk.training.Resume(out, every_steps=3),
            keras.callbacks.LambdaCallback(on_train_batch_end=stop),
        ]
        model.fit(read.train(5), epochs=2, verbose=0, callbacks=callbacks)
        assert np.isfinite(model.evaluate(read.valid(4), verbose=0, return_dict=True)["loss"])
        return model.get_weights()

    expected = run(tmp_path / "one")
    armed.append(True)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "two")
    armed.clear()
    assert any((tmp_path / "two").iterdir())
    for one, other in zip(run(tmp_path / "two"), expected, strict=True):
        np.testing.assert_array_equal(one, other)


# Writing ----------------------------------------------------------------------------------------


def test_goes_on_where_it_was_interrupted(data, tmp_path, monkeypatch):
    made, plain = [], writing._examples

    def examples(held, split, part):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((split, part.start))
        return plain(held, split, part)

    monkeypatch.setattr(writing, "_examples", examples)
    with pytest.raises(KeyboardInterrupt):
        mk.data.write_shards(data, tmp_path, rows_per_shard=4, workers=1)
    assert len(list(tmp_path.glob("*.tfrecord"))) == 3 and not list(tmp_path.glob(".*"))
    with pytest.raises(ValueError, match=r"with a schema.json.*again: it goes on"):
        mk.data.shards(tmp_path)
    broken = tmp_path / "train-00001-of-00006.tfrecord"
    broken.write_bytes(broken.read_bytes()[:-1])  # is written again

    def rest(held, split, part):
        made.append((split, part.start))
        return plain(held, split, part)

    monkeypatch.setattr(writing, "_examples", rest)
    mk.data.write_shards(data, tmp_path, rows_per_shard=4)
    assert sorted(made[3:]) == [
        *(("train", start) for start in (4, 12, 16, 20)), ("valid", 0), ("valid", 4)
    ]  # fmt: skip
    assert_same(
        arrays(mk.data.shards(tmp_path, verify=True).batches("train", 30)),
        arrays(data.batches("train", 30)),
    )
    mk.data.write_shards(data, tmp_path, rows_per_shard=4)
    assert len(made) == 9  # complete: nothing is written


def test_a_folder_of_other_data_is_refused(data, folder):
    with pytest.raises(ValueError, match="holds the shards of one set.*schema.json is of other"):
        mk.data.write_shards(data.take("train", np.arange(9)), folder, rows_per_shard=4)
    with pytest.raises(ValueError, match="`rows_per_shard` must be a whole number"):
        mk.data.write_shards(data, folder, rows_per_shard=0)


def test_files_that_changed_are_refused(data, tmp_path):
    mk.data.write_shards(data, tmp_path, rows_per_shard=12)
    file = tmp_path / "train-00000-of-00002.tfrecord"
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="train-00000-of-00002.tfrecord, changed"):
        mk.data.shards(tmp_path, verify=True)
    with pytest.raises(tf.errors.DataLossError):  # each record has its own checksum
        arrays(mk.data.shards(tmp_path).batches("train", 30))
    file.unlink()
    with pytest.raises(ValueError, match="train-00000-of-00002.tfrecord, missing"):
        mk.data.shards(tmp_path)
    schema = json.loads((tmp_path / "schema.json").read_text())
    (tmp_path / "schema.json").write_text(json.dumps({**schema, "format": 9}))
    with pytest.raises(ValueError, match="must be of format 1. Received: 9"):
        mk.data.shards(tmp_path)


def test_unknown_splits_and_too_large_batches(folder):
    read = mk.data.shards(folder)
    with pytest.raises(ValueError, match="There is no split 'test'"):
        read.test(4)
    with pytest.raises(ValueError, match="must not exceed the number of training rows.*rows=23"):
        read.train(24)


def test_items_and_clips_are_augmented_alike_by_one_reader_or_two(tmp_path):
    rng = np.random.default_rng(2)
    crop = {"random_resized_crop": {"scale": (0.1, 0.4)}}
    specs = {
        "views": mk.Several(mk.Image(size=(6, 5), augment=crop), 2),
        "words": mk.Several(
            mk.Text(length=6, tokenizer="characters", augment={"character_noise": {"rate": 0.5}}), 2
        ),
        "clip": mk.Video(frames=4, size=(8, 12), fps=25, augment={"temporal_crop": {}, "flip": {}}),
    }
    times = list(range(0, 800_000, 40_000))
    clip = clips.container(clips.colours(20), times, 800_000)
    rows = {
        "views": [[files.encode(rng.integers(0, 256, (6, 5, 3)).astype("uint8"))] * 2] * 8,
        "words": [["abcdef", "ghijkl"]] * 8,
        "clip": [clip] * 8,
        "height": [0.5 * i for i in range(8)],
    }
    data = mk.data.table(rows, specs, {"height": mk.Number()})
    read = mk.data.shards(mk.data.write_shards(data, tmp_path, rows_per_shard=4))
    (x, y), (plain, _) = (arrays(read.train(8, augment=a).stream().take(1))[0] for a in (1, 0))
    for name in ("views", "clip"):
        assert not np.array_equal(x[name], plain[name])
    assert not np.array_equal(x["views"][:, 0], x["views"][:, 1])  # each item by itself
    assert np.ptp(x["words"], axis=0).any()  # eight times the same words
    for reader in (0, 1):
        part = arrays(read.train(8, shard=(reader, 2)).stream().take(1))[0]
        assert_same(part, tf.nest.map_structure(lambda v, r=reader: v[4 * r : 4 * r + 4], (x, y)))
