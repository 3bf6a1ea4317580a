"""The layers around masks, positions and padding against NumPy."""

import keras
import numpy as np
import pytest

from mmkeras.encoders.base import GridMask, PadSteps, PoolMask, ScalePixels
from mmkeras.layers import AbsentToken, LearnedPositions, ZeroMasked, masked_mean
from mmkeras.layers.masking import expand_mask
from tests.contract import as_numpy, gradients
from tests.layers import formulas

B, T, D = 3, 5, 7
GARBAGE = (np.nan, np.inf, -np.inf, 3e38)


@pytest.fixture
def tokens(rng):
    return rng.standard_normal((B, T, D)).astype("float32")


@pytest.fixture
def mask(rng):
    """Row 0 has holes, row 1 is absent, row 2 is whole."""
    mask = rng.random((B, T)) < 0.6
    mask[0, :2], mask[1], mask[2] = (True, False), False, True
    return mask


def test_masked_mean(tokens, mask):
    found = as_numpy(masked_mean(tokens, mask))
    np.testing.assert_allclose(found, formulas.masked_mean(tokens, mask), atol=5e-7)  # 1.2e-7
    assert np.all(found[1] == 0.0)


def test_masked_mean_of_any_length(tokens, mask):
    inputs = [keras.Input((None, D)), keras.Input((None,), dtype="bool")]
    mean = keras.layers.Lambda(lambda given: masked_mean(*given), output_shape=(D,))(inputs)
    found = as_numpy(keras.Model(inputs, mean)([tokens, mask]))
    assert np.array_equal(found, as_numpy(masked_mean(tokens, mask)))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_masked_mean_ignores_garbage(tokens, mask, garbage):
    filled = np.where(mask[:, :, None], tokens, np.float32(garbage))
    assert np.array_equal(as_numpy(masked_mean(filled, mask)), as_numpy(masked_mean(tokens, mask)))


def test_masked_mean_accumulates_in_float32():
    """4096 ones sum to 4096 in float32; in float16 such a sum stops at 2048."""
    tokens = np.ones((1, 4096, 1), "float16")
    found = masked_mean(tokens, np.ones((1, 4096), bool))
    assert found.dtype == "float16"
    assert as_numpy(found)[0, 0] == 1.0


def test_expand_mask():
    mask = keras.ops.convert_to_tensor(np.ones((B, T), bool))
    assert tuple(expand_mask(mask, 4).shape) == (B, T, 1, 1)
    assert tuple(expand_mask(mask, 2).shape) == (B, T)
    assert tuple(expand_mask(mask[:, 0], 3).shape) == (B, 1, 1)


@pytest.mark.parametrize("garbage", GARBAGE)
def test_zero_masked(tokens, mask, garbage):
    filled = np.where(mask[:, :, None], tokens, np.float32(garbage))
    expected = np.where(mask[:, :, None], tokens, 0)
    assert np.array_equal(as_numpy(ZeroMasked()(filled, mask)), expected)
    row = mask.any(axis=1)
    assert np.array_equal(
        as_numpy(ZeroMasked()(filled, row)), np.where(row[:, None, None], filled, 0), equal_nan=True
    )


def test_zero_masked_integers(rng):
    ids = rng.integers(0, 9, (B, T)).astype("int32")
    mask = rng.random((B, T)) < 0.5
    ids[~mask] = np.iinfo("int32").max
    assert np.array_equal(as_numpy(ZeroMasked()(ids, mask)), np.where(mask, ids, 0))


def test_zero_masked_ends_keras_own_mask():
    x = keras.layers.Masking()(keras.Input((T, D)))
    out = ZeroMasked()(x, keras.Input((T,), dtype="bool"))
    assert getattr(out, "_keras_mask", None) is None


def test_absent_token(tokens, mask):
    layer = AbsentToken()
    layer(tokens, mask)
    layer.token.assign(np.arange(1.0, D + 1.0)[None, None])
    found, found_mask = as_numpy(layer(tokens, mask))
    assert found.shape == (B, T + 1, D)
    assert np.array_equal(found_mask, np.concatenate([mask, ~mask.any(1, keepdims=True)], 1))
    assert np.array_equal(found[:, :T], np.where(mask[:, :, None], tokens, 0))
    assert np.array_equal(found[1, T], np.arange(1.0, D + 1.0))
    assert np.all(found[[0, 2], T] == 0.0)


def test_absent_token_learns_from_absent_samples_alone(tokens, mask):
    layer = AbsentToken(name="unit")
    layer(tokens, mask)
    for rows, trains in ((slice(None), True), ([0, 2], False)):
        _, found = gradients(lambda r=rows: layer(tokens[r], mask[r])[0], [layer.token])
        assert np.any(found["unit/token"] != 0.0) == trains


def test_learned_positions(tokens):
    layer = LearnedPositions(T + 2)
    found = as_numpy(layer(tokens))
    table = layer.table.numpy()
    assert table.shape == (T + 2, D)
    np.testing.assert_allclose(found, tokens + table[:T], atol=1e-7)
    np.testing.assert_array_equal(as_numpy(layer(tokens[:, :2])), found[:, :2])


def test_learned_positions_errors():
    with pytest.raises(ValueError, match="must not be longer than `length`=4.*Received: 5"):
        LearnedPositions(4)(np.zeros((B, T, D), "float32"))
    with pytest.raises(ValueError, match="`length` must be a whole number of at least 1"):
        LearnedPositions(0)


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_pool_mask(mask, stride):
    expected = np.stack([mask[:, i : i + stride].any(axis=1) for i in range(0, T, stride)], axis=1)
    assert np.array_equal(as_numpy(PoolMask(stride)(mask)), expected)


def test_pool_mask_fits_same_padded_pooling(rng):
    """A pooled position is real exactly where max pooling saw a real one."""
    for length in (1, 4, 5, 9):
        mask = rng.random((B, length)) < 0.4
        pooled = keras.layers.MaxPooling1D(2, padding="same")(mask[:, :, None].astype("float32"))
        assert np.array_equal(as_numpy(PoolMask(2)(mask)), as_numpy(pooled)[:, :, 0] > 0.5)


@pytest.mark.parametrize("shape", [(B, T, D), (B, T, D, 2)])
def test_pad_steps(rng, shape):
    value = rng.normal(size=shape).astype("float32")
    for stride in (1, 2, 3, 7):
        found = as_numpy(PadSteps(stride)(value))
        assert found.shape[1] == -(-T // stride) * stride
        np.testing.assert_array_equal(found[:, :T], value)
        assert not found[:, T:].any()


def test_grid_mask():
    found = as_numpy(GridMask(4)(np.array([True, False, True])))
    assert np.array_equal(found, [[True] * 4, [False] * 4, [True] * 4])
    for layer in (GridMask, PoolMask):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            layer(0)


def test_scale_pixels():
    pixels = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    found = as_numpy(ScalePixels()(pixels))
    np.testing.assert_allclose(found, pixels / 127.5 - 1.0, atol=2e-7)
    assert (found.min(), found.max()) == (-1.0, 1.0)
    half = ScalePixels(dtype="mixed_float16")(pixels)
    np.testing.assert_allclose(as_numpy(half), pixels / 127.5 - 1.0, atol=1e-3)
