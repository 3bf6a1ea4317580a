"""Augmentation of sounds: what each op does to the samples."""

import numpy as np
import pytest

from mmkeras.core import Audio
from mmkeras.data.augment import augmenter
from tests.data.augmented import RATE, S, seed, spec_of


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_has_the_declared_level(snr_db):
    count, size = 8, 8000
    spec = Audio(rate_hz=RATE, seconds=1.0, augment={"noise": {"snr_db": snr_db}})
    wave = 0.3 * np.sin(np.arange(size) * 2 * np.pi * 440 / RATE)
    value = np.repeat(wave[None], count, axis=0).astype("float32")
    mask = np.ones((count, size), bool)
    mask[0, size // 2 :] = False  # the power is that of the real part
    value[0, size // 2 :] = 0
    out = augmenter(spec)(value, mask, seed(1)).numpy()
    for row in range(count):
        real = mask[row]
        noise = out[row][real] - value[row][real]
        snr = 10 * np.log10(np.mean(value[row][real] ** 2) / np.mean(noise**2))
        assert abs(snr - snr_db) < 0.3, (row, snr)
        assert abs(noise.mean()) < 5 * noise.std() / np.sqrt(real.sum())
    assert not out[0, size // 2 :].any()
    assert np.abs(np.corrcoef(out - value)[1:, 1:] - np.eye(count - 1)).max() < 0.1


def test_noise_leaves_silence_silent():
    spec = spec_of("noise")
    out = augmenter(spec)(np.zeros((2, S), "float32"), np.ones((2, S), bool), seed(1))
    assert not out.numpy().any()


def test_time_shift_moves_by_at_most_its_limit(rng):
    spec, limit, count = spec_of("time_shift"), 80, 64
    value = rng.uniform(0.1, 0.5, (count, S)).astype("float32")
    out = augmenter(spec)(value, np.ones((count, S), bool), seed(1)).numpy()
    shifts = []
    for before, after in zip(value, out, strict=True):
        found = [s for s in range(-S + 1, S) if np.array_equal(moved(before, s), after)]
        assert len(found) == 1
        shifts += found
    assert max(np.abs(shifts)) <= limit
    assert min(shifts) < -limit / 2 and max(shifts) > limit / 2
    assert len(set(shifts)) > 30


def moved(wave, shift):
    """`wave` moved right by `shift` samples; zeros come in."""
    out = np.zeros_like(wave)
    out[max(shift, 0) : S + min(shift, 0)] = wave[max(-shift, 0) : S - max(shift, 0)]
    return out


def test_gain_is_within_its_decibels_and_clips(rng):
    spec = Audio(rate_hz=RATE, seconds=S / RATE, augment={"gain": {"db": 12}})
    value = rng.uniform(-0.2, 0.2, (64, S)).astype("float32")
    out = augmenter(spec)(value, np.ones((64, S), bool), seed(1)).numpy()
    ratio = out / value
    assert np.ptp(ratio, axis=1).max() < 1e-4  # one factor a sound
    db = 20 * np.log10(ratio[:, 0])
    assert np.abs(db).max() <= 12 and db.min() < -6 and db.max() > 6
    assert np.abs(augmenter(spec)(value * 5, np.ones((64, S), bool), seed(1))).max() == 1.0


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_time_stretch_keeps_the_pitch_and_scales_the_time(rate):
    spec = Audio(rate_hz=RATE, seconds=1.0, augment={"time_stretch": {"rate": (rate, rate)}})
    t = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * (t < 0.5)
    out = augmenter(spec)(tone[None].astype("float32"), np.ones((1, RATE), bool), seed(1)).numpy()[
        0
    ]
    spectrum = np.abs(np.fft.rfft(out[800:3000] * np.hanning(2200)))
    assert abs(np.argmax(spectrum) * RATE / 2200 - 440) < 4
    loud = np.flatnonzero(np.abs(out) > 0.1)
    assert abs(loud[-1] / RATE - 0.5 / rate) < 0.04 and loud[0] < 0.03 * RATE
    assert abs(np.abs(out[1000:3000]).max() - 0.5) < 0.08
    if rate == 1.0:
        np.testing.assert_allclose(out, tone, atol=2e-3)
