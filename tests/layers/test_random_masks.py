"""What is masked: how many, of which, by what, and that the draws can be repeated."""

import keras
import numpy as np
import pytest

from mmkeras.layers import HideSpans, KeepTokens, MaskTokens, PatchTargets, SpanTargets
from mmkeras.layers.random_masks import scattered

ROWS, LENGTH, WORDS = 2000, 40, 50


def texts(rng):
    """Ids of ordinary words, 2 the separator at the end, behind masks of 0 to 40 words."""
    lengths = rng.integers(0, LENGTH + 1, ROWS)
    mask = np.arange(LENGTH) < lengths[:, None]
    ids = rng.integers(4, WORDS, (ROWS, LENGTH))
    ids[np.arange(ROWS), np.maximum(lengths - 1, 0)] = 2
    return np.where(mask, ids, 0).astype("int32"), mask


def test_the_rates_are_those_of_bert(rng):
    ids, mask = texts(rng)
    layer = MaskTokens(WORDS, 3, (0, 2), rate=0.15, seed=1)
    new, chosen = (np.asarray(t) for t in layer(ids, mask, training=True))
    ordinary = mask & (ids != 2)
    count = ordinary.sum(axis=1)
    assert not (chosen & ~ordinary).any()
    expected = np.maximum(np.floor(0.15 * count + 0.5), np.minimum(count, 1))
    # float32 rounds a half of 0.15 * 10, 0.15 * 30 its own way
    assert np.abs(chosen.sum(axis=1) - expected).max() <= 1
    np.testing.assert_array_equal(chosen.sum(axis=1)[count % 10 != 0], expected[count % 10 != 0])
    np.testing.assert_array_equal(new[~chosen], ids[~chosen])
    total = chosen.sum()
    masked, kept = (new == 3) & chosen, (new == ids) & chosen
    other = chosen & ~masked & ~kept
    # About 6300 are chosen: standard deviations of 0.5 % and 0.4 %.
    assert masked.sum() / total == pytest.approx(0.8, abs=0.02)
    assert other.sum() / total == pytest.approx(0.1 * 46 / 47, abs=0.016)
    assert kept.sum() / total == pytest.approx(0.1 + 0.1 / 47, abs=0.016)
    drawn = np.bincount(new[other], minlength=WORDS)
    assert not drawn[[0, 2, 3]].any() and (drawn[[1, *range(4, WORDS)]] > 0).all()
    places = chosen[mask.sum(axis=1) == LENGTH]
    assert places[:, : LENGTH - 1].any(axis=0).all(), "a place that is never chosen"


def test_draws_differ_in_training_and_are_the_same_outside_of_it(rng):
    ids, mask = texts(rng)
    layer = MaskTokens(WORDS, 3, seed=1)
    first, second = (np.asarray(layer(ids, mask, training=True)[1]) for _ in range(2))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(MaskTokens(WORDS, 3, seed=1)(ids, mask, training=True)[1], first)
    quiet = [np.asarray(MaskTokens(WORDS, 3, seed=s)(ids, mask)[1]) for s in (1, 2)]
    np.testing.assert_array_equal(*quiet)
    # A generator that is put back goes on as it would have.
    state = keras.ops.convert_to_numpy(layer.generator.state)
    third = np.asarray(layer(ids, mask, training=True)[1])
    other = MaskTokens(WORDS, 3, seed=9)
    other.generator.state.assign(state)
    np.testing.assert_array_equal(other(ids, mask, training=True)[1], third)


def test_what_stands_for_chance_in_an_evaluation_is_spread_evenly():
    u = np.stack([np.asarray(scattered(np.arange(256), 64, number)) for number in range(3)])
    assert u.min() >= 0 and u.max() < 1 and len(np.unique(u[0])) == 256 * 64
    assert np.histogram(u, 16, (0, 1))[0] == pytest.approx(np.full(16, 3072), rel=0.1)
    parts = (u[0], u[1], u[2], np.roll(u[0], 1, axis=0), np.roll(u[0], 1, axis=1))
    correlation = np.corrcoef([part.ravel() for part in parts])
    assert np.abs(correlation - np.eye(5)).max() < 0.03
    first = np.argsort(u[0], axis=1)[:, :16]  # who would be kept of 64 patches, in each of 256 rows
    assert np.bincount(first.ravel(), minlength=64) == pytest.approx(np.full(64, 64), abs=30)


def test_outside_of_training_a_row_is_drawn_as_by_itself(rng):
    ids, mask = (part[:9] for part in texts(rng))
    tokens = rng.standard_normal((9, LENGTH, 3)).astype("float32")
    words, patches, spans = MaskTokens(WORDS, 3), KeepTokens(7), HideSpans(4)

    def drawn(part):
        found = words(ids[part], mask[part]), patches(tokens[part], mask[part]), spans(mask[part])
        return [np.asarray(array) for arrays in found for array in arrays]

    whole, parts = drawn(slice(9)), [drawn(slice(0, 4)), drawn(slice(4, 9))]
    for array, *halves in zip(whole, *parts, strict=True):
        np.testing.assert_array_equal(np.concatenate(halves), array)


def test_a_fixed_number_of_patches_is_kept_each_as_likely(rng):
    tokens = np.tile(np.arange(8.0, dtype="float32")[None, :, None], (ROWS, 1, 3))
    mask = np.ones((ROWS, 8), bool)
    mask[0] = False
    mask[1, 3:] = False
    out = KeepTokens(2, seed=0)(tokens, mask, training=True)
    kept, here, hidden = (np.asarray(t) for t in out)
    assert kept.shape == (ROWS, 2, 3) and hidden.shape == (ROWS, 8)
    assert not here[0].any() and not hidden[0].any()
    assert here[1:].all() and hidden[1].sum() == 1 and (hidden[2:].sum(axis=1) == 6).all()
    places = kept[2:, :, 0].astype(int)
    assert (places[:, 0] != places[:, 1]).all()
    assert not np.take_along_axis(hidden[2:], places, axis=1).any()
    assert np.bincount(places.ravel()) / (ROWS - 2) == pytest.approx(np.full(8, 0.25), abs=0.04)
    assert set(kept[1, :, 0]) <= {0, 1, 2}


def test_hidden_spans_are_real_and_behind_the_mask(rng):
    lengths = rng.integers(0, 12, ROWS)
    mask = np.arange(11) < lengths[:, None]
    new, hidden = (np.asarray(t) for t in HideSpans(3, rate=0.5, seed=0)(mask, training=True))
    spans = -(-lengths // 3)
    assert hidden.shape == (ROWS, 4)
    np.testing.assert_array_equal(hidden.sum(1), np.where(spans, np.floor(spans / 2 + 0.5), 0))
    assert not (hidden & (np.arange(4) >= spans[:, None])).any()
    np.testing.assert_array_equal(new, mask & ~np.repeat(hidden, 3, axis=1)[:, :11])


def test_patches_are_standardised_one_by_one(rng):
    pixels = rng.integers(0, 256, (3, 5, 7, 3)).astype("uint8")
    pixels[1] = 9
    found, plain = (np.asarray(PatchTargets(4, n)(pixels)) for n in (True, False))
    x = np.pad(pixels / 127.5 - 1, ((0, 0), (1, 2), (0, 1), (0, 0)))
    for row in range(3):
        for place, (i, j) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
            patch = x[row, i : i + 4, j : j + 4].ravel()
            expected = (patch - patch.mean()) / np.sqrt(patch.var() + 1e-6)
            np.testing.assert_allclose(found[row, place], expected, atol=2e-5)
            np.testing.assert_allclose(plain[row, place], patch, atol=1e-6)


def test_spans_say_what_is_real(rng):
    x = rng.standard_normal((2, 5, 2)).astype("float32")
    mask = np.array([[1, 1, 0, 1, 1], [0] * 5], bool)
    spans, real = (np.asarray(t) for t in SpanTargets(2, 3)(x, mask))
    assert spans.shape == real.shape == (2, 3, 4)
    np.testing.assert_array_equal(spans[0, 0], x[0, :2].ravel())
    np.testing.assert_array_equal(spans[0, 1], [0, 0, *x[0, 3]])
    np.testing.assert_array_equal(real[0], [[1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0]])
    assert not spans[1].any() and not real[1].any()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MaskTokens(9, 2, rate=0.0), "`rate` must be above 0"),
        (lambda: MaskTokens(9, 2, rate=1.5), "between 0.0 and 1.0"),
        (lambda: MaskTokens(2, 1), "tokens beside the special ones"),
        (lambda: KeepTokens(0), "at least 1"),
        (lambda: HideSpans(3, rate=0), "`rate` must be above 0"),
    ],
)
def test_wrong_arguments(make, says):
    with pytest.raises(ValueError, match=says):
        make()
