"""Augmentation of series: seeded, per row, within the real steps, and as its formula says."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Series
from mmkeras.data.augment import OPS, augmenter
from mmkeras.data.draws import Draws
from tests.core.errors import says
from tests.data import files

B, T, C = 6, 40, 3
OPS_OF_SERIES = sorted(OPS["series"])


def seed(a, b=0):
    return Draws(tf.constant([a, b], tf.uint32))


def spec_of(op, **arguments):
    return Series(steps=T, channels=C, normalize=False, augment={op: arguments})


def batch_of(rng):
    """Row 1 ends early, row 2 is absent, row 3 has holes."""
    value = rng.standard_normal((B, T, C)).astype("float32")
    mask = np.ones((B, T), bool)
    mask[1, 25:] = mask[2] = mask[3, 5:9] = False
    value[~mask] = 0
    return value, mask


def test_every_declared_augmentation_is_covered():
    assert set(OPS["series"]) == set(Series.augmentations)


@pytest.mark.parametrize("op", OPS_OF_SERIES)
def test_an_op_changes_real_steps_by_the_seed_alone(op, rng):
    apply = augmenter(spec_of(op))
    value, mask = batch_of(rng)
    first = apply(value, mask, seed(1, 2)).numpy()
    assert first.dtype == np.float32 and first.shape == value.shape
    assert not first[~mask].any()
    changed = [not np.array_equal(a, b) for a, b in zip(first, value, strict=True)]
    assert changed == [True, True, False, True, True, True]
    keras.utils.set_random_seed(99)  # the global seed is without effect
    files.same(apply(value, mask, seed(1, 2)).numpy(), first)
    np.testing.assert_allclose(tf.function(apply)(value, mask, seed(1, 2)), first, atol=1e-5)
    for other in (seed(2, 2), seed(1, 3)):
        assert not np.array_equal(apply(value, mask, other).numpy(), first)
    same = apply(np.repeat(value[:1], 4, 0), np.repeat(mask[:1], 4, 0), seed(3)).numpy()
    assert len({row.tobytes() for row in same}) == 4  # every row draws its own


def test_jitter_and_scaling_have_their_sigma():
    value, mask = np.ones((200, T, C), "float32"), np.ones((200, T), bool)
    noise = augmenter(spec_of("jitter", sigma=0.3))(value, mask, seed(1)).numpy() - 1
    assert abs(noise.std() - 0.3) < 0.01 and abs(noise.mean()) < 0.01
    factor = augmenter(spec_of("scaling", sigma=0.2))(value, mask, seed(1)).numpy()
    assert np.ptp(factor, axis=1).max() == 0  # one factor per row and channel
    assert abs(factor[:, 0].std() - 0.2) < 0.02 and np.ptp(factor[0, 0]) > 0


def test_rotation_turns_sensors_as_one_in_raw_units(rng):
    raw = rng.standard_normal((400, T, 6)) * 3 + 2
    mean, scale = (1.0, -2.0, 0.5, 0.0, 1.0, 9.0), (2.0, 0.5, 1.0, 3.0, 1.5, 4.0)
    spec = Series(steps=T, channels=6, mean=mean, scale=scale, augment={"rotation": {"sigma": 0.3}})
    mask = np.ones((400, T), bool)
    value = ((raw - mean) / scale).astype("float32")
    out = augmenter(spec)(value, mask, seed(1)).numpy() * scale + mean
    angles = []
    for before, after in zip(raw, out, strict=True):
        sensors = before.reshape(-1, 3), after.reshape(-1, 3)
        turn = np.linalg.lstsq(*sensors, rcond=None)[0].T  # one matrix for both sensors
        np.testing.assert_allclose(sensors[0] @ turn.T, sensors[1], atol=1e-4)
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(turn) > 0
        angles.append(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    assert abs(np.sqrt(np.mean(np.square(angles))) - 0.3 * np.sqrt(3)) < 0.03


def test_time_warp_is_monotonic_and_keeps_both_ends():
    ramp = np.repeat(np.arange(T, dtype="float32")[None, :, None], 50, axis=0).repeat(C, 2)
    mask = np.ones((50, T), bool)
    mask[:25, 30:] = False
    apply = augmenter(spec_of("time_warp", sigma=0.4))
    out = apply(np.where(mask[..., None], ramp, 0), mask, seed(2)).numpy()
    for row, real in zip(out, mask, strict=True):
        time, last = row[real, 0], real.sum() - 1
        assert abs(time[0]) < 1e-4 and abs(time[-1] - last) < 1e-3
        assert (np.diff(time) > 0).all()
        np.testing.assert_array_equal(row[:, 0], row[:, 2])  # channels stay together
    moved = np.abs(out - ramp)[mask].max()
    assert 1 < moved < T / 2


def test_time_warp_reads_no_hole(rng):
    value, mask = batch_of(rng)
    holed = np.where(mask[..., None], value, 0)
    apply = augmenter(spec_of("time_warp"))
    whole = augmenter(spec_of("time_warp"))(np.full_like(value, 5.0), mask, seed(4)).numpy()
    np.testing.assert_allclose(whole[mask], 5.0, rtol=1e-6)  # a mean with a hole would be below
    for garbage in (1e30, np.float32(7)):
        files.same(
            apply(np.where(mask[..., None], value, garbage), mask, seed(4)).numpy(),
            apply(holed, mask, seed(4)).numpy(),
        )


def test_wrong_arguments_are_refused():
    for op, arguments in (
        ("jitter", {"sigma": -1}),
        ("time_warp", {"knots": 1}),
        ("scaling", {"s": 1}),
    ):
        with says(ValueError, f"The augmentation '{op}' must have arguments that it knows"):
            augmenter(spec_of(op, **arguments))
    with says(ValueError, "'rotation' turns channels in threes", "a Series of 4 channels"):
        augmenter(Series(steps=T, channels=4, normalize=False, augment={"rotation": {}}))
    with says(ValueError, "Unknown series augmentation 'jiter'", "Did you mean 'jitter'?"):
        spec_of("jiter")


def test_training_batches_are_augmented_and_validation_not(rng):
    value, _ = batch_of(rng)
    data = mk.data.table({"s": value}, {"s": spec_of("jitter", sigma=0.5)}, valid={"s": value})
    x = files.numpy(data.train(B, shuffle=False))[0][0]["s"]
    assert 0.3 < (x - value).std() < 0.7
    plain = data.train(B, shuffle=False, augment=False)
    for batches in (data.valid(B), plain):
        np.testing.assert_array_equal(files.numpy(batches)[0][0]["s"], value)
