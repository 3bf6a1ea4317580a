"""LogMel and MFCC against an independent NumPy STFT, mel matrix and SciPy's DCT; SpecAugment."""

import numpy as np
import pytest
import scipy.fft

from mmkeras.layers import MFCC, LogMel, SpecAugment
from tests.contract import as_numpy

RATE, WINDOW, HOP, BANDS, SAMPLES, BATCH = 2000, 50, 20, 7, 233, 4
FFT = 64


def mel(hz):
    """The HTK scale."""
    return 2595.0 * np.log10(1.0 + hz / 700.0)


def mel_matrix():
    """Triangles of height 1, linear in mel, between BANDS + 2 points from 20 Hz to RATE / 2."""
    points = np.linspace(mel(20.0), mel(RATE / 2), BANDS + 2)
    matrix = np.zeros((FFT // 2 + 1, BANDS))
    for k in range(1, FFT // 2 + 1):
        for band in range(BANDS):
            matrix[k, band] = np.interp(mel(k * RATE / FFT), points[band : band + 3], [0, 1, 0])
    return matrix


def mel_power(wave):
    """(S,) -> (F, M): centred frames, periodic Hann window in the middle of the FFT frame."""
    padded = np.pad(wave.astype("float64"), FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)
    left = (FFT - WINDOW) // 2
    frames = []
    for frame in range(1 + len(wave) // HOP):
        piece = padded[frame * HOP : frame * HOP + FFT]
        spectrum = [
            np.sum(piece[left : left + WINDOW] * window * np.exp(-2j * np.pi * k * n / FFT))
            for k in range(FFT // 2 + 1)
            for n in [np.arange(left, left + WINDOW)]
        ]
        frames.append(np.abs(spectrum) ** 2 @ mel_matrix())
    return np.array(frames)


def log_mel(wave, mask, normalize=True):
    """One sample: log power, standardised over the real frames, zero elsewhere."""
    frames = np.log(np.maximum(mel_power(np.where(mask, wave, 0.0)), 1e-6))
    real = np.array([mask[i * HOP : (i + 1) * HOP].any() for i in range(len(frames))])
    if normalize and real.any():
        frames = (frames - frames[real].mean()) / (frames[real].std() + 1e-3)
    return np.where(real[:, None], frames, 0.0), real


def layer(**kwargs):
    return LogMel(
        RATE, num_bands=BANDS, window_seconds=WINDOW / RATE, hop_seconds=HOP / RATE, **kwargs
    )


@pytest.fixture
def wave(rng):
    return rng.uniform(-1, 1, (BATCH, SAMPLES)).astype("float32")


@pytest.fixture
def mask():
    """Whole, cut, absent, and one that ends inside a frame."""
    return np.arange(SAMPLES) < np.array([[SAMPLES], [100], [0], [41]])


@pytest.mark.parametrize("normalize", [True, False])
def test_log_mel(wave, mask, normalize):
    frames, real = as_numpy(layer(normalize=normalize)(wave, mask))
    assert frames.shape == (BATCH, 1 + SAMPLES // HOP, BANDS)
    for row in range(BATCH):
        expected, expected_real = log_mel(wave[row], mask[row], normalize)
        assert np.array_equal(real[row], expected_real)
        np.testing.assert_allclose(frames[row], expected, atol=4e-5, rtol=0)  # 4.3e-6


def test_log_mel_is_standardised_over_the_real_frames(wave, mask):
    frames, real = as_numpy(layer()(wave, mask))
    for row in (0, 1, 3):
        inside = frames[row][real[row]]
        assert abs(inside.mean()) < 1e-5
        assert abs(inside.std() - 1.0) < 5e-3
    assert np.all(frames[~real] == 0.0)
    assert not real[2].any()


def test_log_mel_cancels_loudness(wave, mask):
    quiet, loud = (as_numpy(layer()(wave * gain, mask)[0]) for gain in (0.5, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=5e-6)  # measured: 7e-7


def test_log_mel_of_silence_is_finite():
    frames, _ = as_numpy(layer()(np.zeros((2, SAMPLES), "float32"), np.ones((2, SAMPLES), bool)))
    assert np.all(np.abs(frames) < 1e-2)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 3e38, 7.0])
def test_log_mel_ignores_what_is_masked(wave, mask, garbage):
    expected = as_numpy(layer()(wave, mask))
    filled = np.where(mask, wave, np.float32(garbage))
    for left, right in zip(as_numpy(layer()(filled, mask)), expected, strict=True):
        assert np.array_equal(left, right)


def test_log_mel_samples_are_independent(wave, mask):
    together = as_numpy(layer()(wave, mask)[0])
    louder = wave * np.array([1, 100, 100, 100], "float32")[:, None]
    assert np.array_equal(as_numpy(layer()(louder, mask)[0])[0], together[0])
    for row in range(BATCH):
        alone = as_numpy(layer()(wave[row : row + 1], mask[row : row + 1])[0])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [WINDOW, HOP * 5, HOP * 5 + 1, HOP * 6 - 1])
def test_log_mel_frames_of_any_length(samples):
    frames, real = layer()(np.ones((1, samples), "float32"), np.ones((1, samples), bool))
    assert tuple(frames.shape) == (1, 1 + samples // HOP, BANDS)
    assert tuple(real.shape) == (1, 1 + samples // HOP)


@pytest.mark.parametrize("samples", [WINDOW // 2 + 1, WINDOW // 2])
def test_log_mel_needs_more_than_half_a_window(samples, rng):
    wave, mask = rng.uniform(-1, 1, (1, samples)).astype("float32"), np.ones((1, samples), bool)
    if samples > WINDOW // 2:
        expected = log_mel(wave[0], mask[0])[0]
        np.testing.assert_allclose(as_numpy(layer()(wave, mask)[0])[0], expected, atol=4e-5)
        return
    with pytest.raises(ValueError, match="longer than half a window, 25.*Received: 25 samples"):
        layer()(wave, mask)


def test_log_mel_works_in_float32_under_every_policy(wave, mask):
    half = layer(dtype="mixed_float16")
    frames, real = half(wave, mask)
    assert (frames.dtype, real.dtype) == ("float32", "bool")
    assert np.array_equal(as_numpy(frames), as_numpy(layer()(wave, mask)[0]))


@pytest.mark.parametrize("kept", [1, 3, BANDS])
def test_mfcc(rng, kept):
    frames = rng.standard_normal((BATCH, 5, BANDS)).astype("float32")
    expected = scipy.fft.dct(frames.astype("float64"), type=2, norm="ortho")[..., :kept]
    np.testing.assert_allclose(as_numpy(MFCC(kept)(frames)), expected, atol=3e-6)  # 4e-7


def test_mfcc_keeps_no_more_coefficients_than_bands():
    with pytest.raises(ValueError, match="`num_coefficients` must not exceed.*8.*7"):
        MFCC(BANDS + 1)(np.zeros((1, 5, BANDS), "float32"))


# SpecAugment ------------------------------------------------------------------------------------

FRAMES = np.ones((64, 12, 9), "float32")


def runs(zero):
    """Lengths of the runs of true in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], zero.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_spec_augment_acts_only_in_training():
    augment = SpecAugment(seed=1)
    assert np.array_equal(as_numpy(augment(FRAMES)), FRAMES)
    assert np.array_equal(as_numpy(augment(FRAMES, training=False)), FRAMES)
    assert not np.array_equal(as_numpy(augment(FRAMES, training=True)), FRAMES)


@pytest.mark.parametrize(("time_width", "band_width"), [(4, 3), (1, 1), (100, 100)])
def test_spec_augment_zeroes_one_run_of_at_most_the_width(time_width, band_width):
    augment = SpecAugment(time_width=time_width, band_width=band_width, seed=2)
    seen_time, seen_band = set(), set()
    for zero in as_numpy(augment(FRAMES, training=True)) == 0.0:
        time, band = zero.all(axis=1), zero.all(axis=0)
        if not zero.all():
            assert np.array_equal(zero, time[:, None] | band[None, :])
            for found, seen in ((time, seen_time), (band, seen_band)):
                assert len(runs(found)) <= 1
                seen.add(int(found.sum()))
    assert seen_time <= set(range(min(time_width, 12) + 1))
    assert seen_band <= set(range(min(band_width, 9) + 1))
    assert {0, 1} <= seen_time
    if time_width == 4:
        assert seen_time == {0, 1, 2, 3, 4}
        assert seen_band == {0, 1, 2, 3}


def test_spec_augment_counts_of_masks():
    none = SpecAugment(time_masks=0, band_masks=0, seed=3)
    assert np.array_equal(as_numpy(none(FRAMES, training=True)), FRAMES)
    time_only = as_numpy(SpecAugment(band_masks=0, time_width=5, seed=3)(FRAMES, training=True))
    assert all(row.all() or not row.any() for sample in time_only for row in sample)
    many = SpecAugment(time_masks=3, time_width=2, band_masks=0, seed=3)
    counts = (as_numpy(many(FRAMES, training=True))[:, :, 0] == 0).sum(axis=1)
    assert 2 < counts.max() <= 6


def test_spec_augment_reaches_both_ends():
    zero = as_numpy(SpecAugment(time_width=3, band_masks=0, seed=4)(FRAMES, training=True)) == 0
    assert zero[:, 0, 0].any()
    assert zero[:, -1, 0].any()


def test_spec_augment_seeds():
    def draw(seed):
        return as_numpy(SpecAugment(seed=seed)(FRAMES, training=True))

    assert np.array_equal(draw(5), draw(5))
    assert not np.array_equal(draw(5), draw(6))
    augment = SpecAugment(seed=5)
    first, second = (as_numpy(augment(FRAMES, training=True)) for _ in range(2))
    assert np.array_equal(first, draw(5))
    assert not np.array_equal(first, second)
    assert len({sample.tobytes() for sample in first}) > len(first) // 2  # each its own runs


def test_spec_augment_removes_nan():
    augment = SpecAugment(time_width=100, time_masks=20, seed=7)
    found = as_numpy(augment(np.full((4, 3, 2), np.nan, "float32"), training=True))
    assert np.all(np.isnan(found) | (found == 0.0))
    assert np.any(found == 0.0)


def test_errors():
    for make, name in (
        (lambda: LogMel(0), "rate_hz"),
        (lambda: LogMel(1000, num_bands=0), "num_bands"),
        (lambda: MFCC(0), "num_coefficients"),
        (lambda: SpecAugment(time_masks=-1), "time_masks"),
        (lambda: SpecAugment(band_width=0), "band_width"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be a whole number.*Received: {name}="):
            make()
    with pytest.raises(ValueError, match="`hop_seconds` must lie between"):
        LogMel(1000, hop_seconds=-1.0)
