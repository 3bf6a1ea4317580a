"""Augmentation: a function of the seed alone, of every op, on real rows only."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Audio, Image, Text, Vector
from mmkeras.data.augment import OPS, augmenter
from tests.core.errors import says
from tests.data import files
from tests.data.augmented import (
    ABSENT,
    ARGUMENTS,
    AUDIO_OPS,
    IMAGE_OPS,
    TEXT_OPS,
    WORDS,
    B,
    batch_of,
    seed,
    spec_of,
)


def test_every_declared_augmentation_is_covered():
    # Crops are cut while decoding: tests/data/test_crop.py.
    assert set(OPS["image"]) | {"random_resized_crop"} == set(Image.augmentations)
    assert set(OPS["audio"]) | {"spec_augment"} == set(Audio.augmentations)
    assert set(OPS["text"]) | {"character_noise"} == set(Text.augmentations)


@pytest.mark.parametrize("op", [*IMAGE_OPS, *AUDIO_OPS, *TEXT_OPS])
def test_an_op_changes_real_rows_by_the_seed_alone(op, rng):
    spec = spec_of(op)
    value, mask = batch_of(spec, rng)
    apply = augmenter(spec)
    first = apply(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    assert first.dtype == value.dtype and first.shape == value.shape
    assert not first[ABSENT].any()
    assert not first[~mask].any()  # for sounds: nothing behind the mask of a row
    changed = [not np.array_equal(a, b) for a, b in zip(first, value, strict=True)]
    assert not changed[ABSENT]
    assert sum(changed) >= (1 if op == "flip" else B - 2), changed
    keras.utils.set_random_seed(99)  # the global seed is without effect
    again = apply(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    files.same(first, again)
    graph = tf.function(apply)(tf.constant(value), tf.constant(mask), seed(1, 2)).numpy()
    if spec.kind == "image":
        assert np.abs(first.astype(int) - graph).max() <= 1
    else:
        # The phase vocoder sums phases over all frames.
        np.testing.assert_allclose(first, graph, atol=1e-5 if op == "time_stretch" else 1e-6)
    others = [apply(value, mask, seed(a, b)).numpy() for a, b in ((2, 2), (1, 3), (5, 9))]
    assert any(not np.array_equal(first, other) for other in others)
    if op != "flip":
        assert all(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("op", [*IMAGE_OPS, *AUDIO_OPS, *TEXT_OPS])
def test_rows_are_changed_independently(op, rng):
    spec = spec_of(op)
    value, mask = batch_of(spec, rng)
    value = np.repeat(value[1:2], 8, axis=0)
    mask = np.repeat(mask[1:2], 8, axis=0)
    out = augmenter(spec)(value, mask, seed(4)).numpy()
    distinct = len({row.tobytes() for row in out})
    assert distinct == 2 if op == "flip" else distinct >= 5, distinct


def test_ops_act_one_after_the_other_with_seeds_of_their_own(rng):
    both = spec_of("time_shift", "noise")
    value, mask = batch_of(both, rng)
    out = augmenter(both)(value, mask, seed(1)).numpy()
    shifted = augmenter(spec_of("time_shift"))(value, mask, seed(1)).numpy()
    noise = out[1] - shifted[1]
    snr = 10 * np.log10(np.mean(shifted[1] ** 2) / np.mean(noise**2))
    assert abs(snr - 20) < 1  # the same shift, and noise on top


def test_what_has_no_augmentation_gives_none():
    for spec in (Image(), Audio(), Text(), Vector(), Audio(augment={"spec_augment": {}})):
        assert augmenter(spec) is None


def test_wrong_arguments_name_the_op():
    with says(ValueError, "augmentation 'flip'", "{'fraction': 0.1}", "mmkeras.data.augment"):
        augmenter(Image(augment={"flip": {"fraction": 0.1}}))
    with says(ValueError, "augmentation 'noise'", "{'snr': 3}"):
        augmenter(Audio(augment={"noise": {"snr": 3}}))


# In the pipeline


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    pictures = list(rng.integers(0, 256, (6, 8, 8, 3)).astype("uint8"))
    waves = list(rng.uniform(-0.5, 0.5, (6, 200)).astype("float32"))
    pictures[1] = waves[4] = None
    return {"image": pictures, "audio": waves, "v": np.arange(6.0)[:, None]}


SPECS = {
    "image": Image(size=8, augment={"flip": {}, "translate": {}, "brightness": {}}),
    "audio": Audio(rate_hz=8000, seconds=0.025, augment={"noise": {"snr_db": 10}}),
    "v": Vector(normalize=False),
}


def table(columns, seed=0):
    return mk.data.table(columns, SPECS, valid=columns, test=columns, seed=seed)


def test_training_batches_differ_by_epoch_and_repeat_by_seed(columns):
    train = table(columns).train(3, shuffle=False)
    epochs = [files.numpy(train) for _ in range(2)]
    again = table(columns).train(3, shuffle=False)
    keras.utils.set_random_seed(7)
    files.same(epochs, [files.numpy(again) for _ in range(2)])
    other = files.numpy(table(columns, seed=1).train(3, shuffle=False))
    for name in ("image", "audio"):
        first = np.concatenate([x[name] for (x,) in epochs[0]])
        second = np.concatenate([x[name] for (x,) in epochs[1]])
        third = np.concatenate([x[name] for (x,) in other])
        absent = {"image": 1, "audio": 4}[name]
        for row in range(6):
            if row == absent:
                assert not first[row].any() and not second[row].any()
            else:
                assert not np.array_equal(first[row], second[row])
                assert not np.array_equal(first[row], third[row])
    for x, y in zip(epochs[0], epochs[1], strict=True):
        files.same(x[0]["v"], y[0]["v"])  # a vector has no augmentation
        files.same(x[0]["audio_mask"], y[0]["audio_mask"])


def test_no_augmentation_for_valid_and_test_nor_on_request(columns):
    data = table(columns)
    for dataset in (
        data.valid(6),
        data.test(6),
        data.batches("train", 6),
        data.train(6, shuffle=False, augment=False),
    ):
        ((x,),) = files.numpy(dataset)
        for name in ("image", "audio"):
            for row, cell in enumerate(columns[name]):
                expected = 0 if cell is None else cell
                np.testing.assert_array_equal(x[name][row], expected * np.ones_like(x[name][row]))


ALL = {
    "image": Image(size=8, augment={op: {} for op in (*IMAGE_OPS, "random_resized_crop")}),
    "audio": Audio(
        rate_hz=8000,
        seconds=0.025,
        augment={op: ARGUMENTS.get(op, {}) for op in AUDIO_OPS},
    ),
    "text": Text(
        length=7,
        vocabulary=WORDS,
        augment={"character_noise": {"rate": 0.2}} | {op: ARGUMENTS.get(op, {}) for op in TEXT_OPS},
    ),
    "letters": Text(length=9, tokenizer="bytes", augment={"character_noise": {"rate": 0.5}}),
}


def test_parts_of_a_batch_are_augmented_as_the_whole(columns):
    """Every augmentation of every kind: several readers see what one sees.

    To the last bit, but for sounds: the sums of a Fourier transform round by the batch.
    """
    parts = 2
    rng = np.random.default_rng(1)
    rows = {name: (columns[name] * 2)[:8] for name in ("image", "audio")}
    # Rows of different lengths, so that the longest text of a part is not that of the batch.
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 20, n)) for n in (1, 2, 9, 3, 1, 0, 5, 2)]
    rows |= {"text": texts, "letters": [t.replace("w", "long word ") for t in texts]}
    train = mk.data.table(rows, ALL, seed=3).train(8)
    whole = next(iter(train.stream()))[0]
    shards = [next(iter(train.stream(shard=(i, parts))))[0] for i in range(parts)]
    for name, value in whole.items():
        found = np.concatenate([shard[name].numpy() for shard in shards])
        tolerance = 2e-5 if name == "audio" else 0  # measured: 3e-6
        np.testing.assert_allclose(found, value.numpy(), rtol=0, atol=tolerance, err_msg=name)
    plain = next(iter(mk.data.table(rows, ALL, seed=3).train(8, augment=False).stream()))[0]
    assert all(not np.array_equal(whole[name], plain[name]) for name in ALL)
