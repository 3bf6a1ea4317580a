"""The models and numbers of the step benchmark; PyTorch's side is not needed here."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from benchmarks import models, step


def test_texts_are_padded_as_asked():
    lengths = {pad: models.clip_batches(3, pad)[0][0] for pad in ("32", "77", "bucket")}
    assert lengths["32"]["words"].shape == (64, 32)
    assert lengths["77"]["words"].shape == (64, 77)
    for x in lengths.values():
        assert (x["words"][~x["words_mask"]] == 0).all()
    assert 11 <= np.median(lengths["77"]["words_mask"].sum(1)) <= 17


def test_buckets_hold_the_same_lengths_sorted():
    held = {pad: [x for x, _ in models.clip_batches(5, pad)] for pad in ("77", "bucket")}
    lengths = {pad: [x["words_mask"].sum(1) for x in made] for pad, made in held.items()}
    np.testing.assert_array_equal(*(np.sort(np.ravel(part)) for part in lengths.values()))
    spans = sorted((part.min(), part.max()) for part in lengths["bucket"])
    assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))
    for x, part in zip(held["bucket"], lengths["bucket"], strict=True):
        assert x["words"].shape[1] == min(b for b in models.BUCKETS if b >= part.max())


def test_info_nce_is_the_mean_of_both_cross_entropies(rng):
    logits = rng.normal(size=(5, 5)).astype("float32")

    def cross_entropy(a):
        own = np.exp(np.diag(a)) / np.exp(a).sum(1)
        return -np.log(own)

    expected = (cross_entropy(logits) + cross_entropy(logits.T)).mean() / 2
    found = models.clip_loss()["logits"](np.arange(5), logits)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_both_sides_are_the_models_that_were_announced():
    ours = models.late_fusion(mk.Model)
    assert ours.count_params() == models.late_fusion(keras.Model).count_params() == 1_321_421


def test_data_of_any_length_has_an_open_axis():
    made = models.clip_batches(2, "32") + models.clip_batches(1, "77")
    spec = step.dataset(made).element_spec[0]
    assert spec["words"].shape.as_list() == [64, None]
    assert spec["image"].shape.as_list() == [64, 64, 64, 3]
