"""The cache on disk: equal batches, mapped, found again, never stale, whole or not at all."""

import os

import numpy as np
import pytest

import mmkeras as mk
from mmkeras.data import cache
from tests.core.errors import says
from tests.data import files


@pytest.fixture
def columns(tmp_path, rng):
    names = []
    for number in range(5):
        pixels = rng.integers(0, 256, (9, 8, 3)).astype("uint8")
        path = tmp_path / f"{number}.png"
        path.write_bytes(files.encode(pixels))
        names.append(str(path))
    sounds = [files.wav(rng.integers(-9, 9, n)) for n in (300, 200, 0, 90, 400)]
    return {
        "picture": [names[0], names[1], "", names[1], names[2]],
        "sound": [*sounds[:2], b"", *sounds[3:]],
        "words": ["a b", "b", "c c a", "", "a"],
        "numbers": [[1.0, 2.0], None, [3.0, 5.0], [0.0, 0.0], [2.0, 2.0]],
    }


def table(columns, *names):
    specs = {
        "picture": mk.Image(size=(4, 5), augment={"flip": {}}),
        "sound": mk.Audio(rate_hz=8000, seconds=0.04),
        "words": mk.Text(length=3),
        "numbers": mk.Vector(size=2),
    }
    specs = {name: specs[name] for name in names or specs}
    return mk.data.table(columns, specs, valid=columns)


def keys(folder):
    return sorted(path.name for path in folder.iterdir())


def test_batches_are_those_without_a_cache_and_are_mapped(columns, tmp_path):
    folder = tmp_path / "cache"
    data = table(columns)
    cached = data.cache(folder)
    files.same(files.numpy(cached.valid(2)), files.numpy(data.valid(2)))
    files.same(files.numpy(cached.train(2)), files.numpy(data.train(2)))
    files.same(cached.raw("valid", [4, 2]), data.raw("valid", [4, 2]))
    for column in cached.splits["train"].columns.values():
        assert isinstance(column.items, np.memmap) and isinstance(column.mask, np.memmap)
    # Train and valid hold the same items, so every modality is stored once.
    assert len(keys(folder)) == 4 and not [k for k in keys(folder) if k.endswith(".tmp")]
    assert len(cached.splits["train"].columns["picture"].items) == 4
    some = cached.without("valid", "picture", [0]).take("valid", np.array([0, 1]))
    assert some.splits["valid"].columns["picture"].absent().tolist() == [True, False]


def test_it_is_found_again_and_nothing_is_decoded(columns, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    first = files.numpy(table(columns, "picture", "words").cache(folder).valid(5))
    data = table(columns, "picture", "words")
    monkeypatch.setattr(cache, "_batches", None)  # making one more would call it
    files.same(files.numpy(data.cache(folder).valid(5)), first)


@pytest.mark.parametrize("change", ["size", "item", "file"])
def test_a_stale_cache_is_not_read(columns, tmp_path, rng, change):
    folder = tmp_path / "cache"
    names = ("words",) if change == "item" else ("picture",)
    data = table(columns, *names)
    data.cache(folder)
    before = keys(folder)
    if change == "size":
        spec = data.modalities["picture"].replace(size=(5, 5))
        data = mk.data.table(columns, {"picture": spec}, valid=columns)
    elif change == "item":
        data = table({**columns, "words": ["a b", "b", "c c a", "", "b a"]}, *names)
    else:
        pixels = rng.integers(0, 256, (9, 8, 3)).astype("uint8")
        with open(columns["picture"][0], "wb") as file:
            file.write(files.encode(pixels))
        os.utime(columns["picture"][0], ns=(1, 1))
        data = table(columns, *names)
    cached = data.cache(folder)
    assert set(before) < set(keys(folder))
    files.same(files.numpy(cached.valid(5)), files.numpy(data.valid(5)))


def test_augmentation_is_no_part_of_the_key(columns, tmp_path):
    data = table(columns, "picture")
    plain = data.modalities["picture"].replace(augment={})
    column = data.splits["train"].columns["picture"]
    assert cache.key_of(plain, column) == cache.key_of(data.modalities["picture"], column)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def broken():
        yield (np.ones((2, 3), "float32"),)
        raise KeyboardInterrupt

    shapes = {"value": ((3,), "float32")}
    with pytest.raises(KeyboardInterrupt):
        cache.stored(tmp_path / "cache", "key", 4, shapes, broken)
    assert keys(tmp_path / "cache") == []
    with says(RuntimeError, "4 rows", "Received: 2"):
        cache.stored(tmp_path, "key", 4, shapes, lambda: [(np.ones((2, 3), "float32"),)])
    whole = [(np.full((2, 3), n, "float32"),) for n in (1, 2)]
    held = cache.stored(tmp_path, "key", 4, shapes, lambda: whole)["value"]
    np.testing.assert_array_equal(held, np.concatenate([part for (part,) in whole]))
