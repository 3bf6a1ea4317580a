"""Every layer of `mmkeras.layers` and `mmkeras.encoders.base` under the contract."""

import inspect

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.encoders import base
from mmkeras.layers import (
    MFCC,
    AbsentToken,
    CenterFrames,
    HideSpans,
    JoinItems,
    KeepTokens,
    LearnedPositions,
    LogMel,
    MaskedGroupNorm,
    MaskTokens,
    MaxPool3D,
    MeanToken,
    MergeItems,
    NormalizePixels,
    PatchTargets,
    SpanTargets,
    SpecAugment,
    SplitItems,
    TransformerBlock,
    ZeroMasked,
)
from tests.contract import CHECKS, Unit


def tokens_and_mask(rng, batch=5, time=4, dim=6):
    """Random tokens and mask; row 0 is whole, row 1 absent."""
    mask = rng.random((batch, time)) < 0.6
    mask[0], mask[1], mask[2:, 0] = True, False, True
    return rng.standard_normal((batch, time, dim)), mask


def clips_and_mask(rng):
    """Random tokens of 3 items with a mask."""
    return rng.standard_normal((5, 3, 4, 6)), rng.random((5, 3, 4)) < 0.6


def cross(rng):
    context, mask = tokens_and_mask(rng, time=3)
    return rng.standard_normal((5, 4, 6)), mask, context


UNITS = {
    "absent_token": Unit(AbsentToken, tokens_and_mask),
    "center_frames": Unit(
        CenterFrames,
        lambda rng: (rng.standard_normal((5, 4, 3, 6)), tokens_and_mask(rng)[1]),
    ),
    "grid_mask": Unit(lambda **kw: base.GridMask(3, **kw), lambda rng: (rng.random(5) < 0.5,)),
    "hide_spans": Unit(
        lambda **kw: HideSpans(3, seed=0, **kw), lambda rng: tokens_and_mask(rng, time=8)[1:]
    ),
    "keep_tokens": Unit(lambda **kw: KeepTokens(2, seed=0, **kw), tokens_and_mask),
    "mask_tokens": Unit(
        lambda **kw: MaskTokens(9, 2, seed=0, **kw),
        lambda rng: (rng.integers(0, 9, (5, 4)).astype("int32"), tokens_and_mask(rng)[1]),
    ),
    "patch_targets": Unit(
        lambda **kw: PatchTargets(2, **kw),
        lambda rng: (rng.integers(0, 256, (5, 4, 3, 3)).astype("uint8"),),
        float32=True,
    ),
    "span_targets": Unit(lambda **kw: SpanTargets(3, 2, **kw), tokens_and_mask, float32=True),
    "join_items": Unit(JoinItems, lambda rng: clips_and_mask(rng)),
    "masked_group_norm": Unit(
        lambda **kw: MaskedGroupNorm(2, **kw),
        lambda rng: (rng.standard_normal((5, 4, 3, 6)), tokens_and_mask(rng)[1]),
    ),
    "merge_items": Unit(MergeItems, lambda rng: tokens_and_mask(rng)[:1], float32=True),
    "max_pool_3d": Unit(
        lambda **kw: MaxPool3D((2, 3, 2), **kw), lambda rng: (rng.normal(size=(5, 3, 4, 4, 2)),)
    ),
    "mean_token": Unit(MeanToken, tokens_and_mask),
    "learned_positions": Unit(
        lambda **kw: LearnedPositions(4, **kw), lambda rng: tokens_and_mask(rng)[:1]
    ),
    "log_mel": Unit(
        lambda **kw: LogMel(1000, num_bands=5, **kw),
        lambda rng: (rng.uniform(-1, 1, (5, 85)), tokens_and_mask(rng, time=85)[1]),
        float32=True,
    ),
    "mfcc": Unit(lambda **kw: MFCC(3, **kw), lambda rng: tokens_and_mask(rng)[:1], float32=True),
    "normalize_pixels": Unit(
        lambda **kw: NormalizePixels([0.01, 0.02, 0.03], -1.0, True, **kw),
        lambda rng: (rng.integers(0, 256, (5, 4, 3, 3)).astype("uint8"),),
    ),
    "pad_steps": Unit(
        lambda **kw: base.PadSteps(2, **kw), lambda rng: tokens_and_mask(rng, time=5)[:1]
    ),
    "pool_mask": Unit(
        lambda **kw: base.PoolMask(2, **kw), lambda rng: tokens_and_mask(rng, time=5)[1:]
    ),
    "scale_pixels": Unit(
        base.ScalePixels, lambda rng: (rng.integers(0, 256, (5, 4, 3, 3)).astype("uint8"),)
    ),
    "spec_augment": Unit(
        lambda **kw: SpecAugment(time_width=2, band_width=3, seed=4, **kw),
        lambda rng: tokens_and_mask(rng)[:1],
    ),
    "segment_ids": Unit(
        lambda **kw: base.SegmentIds(3, 2, **kw),
        lambda rng: (rng.integers(0, 4, (5, 9)).astype("int32"),),
    ),
    "transformer_block_post_norm": Unit(
        lambda **kw: TransformerBlock(2, 8, normalize_first=False, **kw), tokens_and_mask
    ),
    "transformer_block_post_norm_cross": Unit(
        lambda **kw: TransformerBlock(2, 8, cross=True, normalize_first=False, **kw), cross
    ),
    "split_items": Unit(
        lambda **kw: SplitItems(3, **kw), lambda rng: (rng.normal(size=(6, 4, 5)),), float32=True
    ),
    "transformer_block": Unit(lambda **kw: TransformerBlock(2, 8, **kw), tokens_and_mask),
    "transformer_block_remat": Unit(
        lambda **kw: TransformerBlock(2, 8, remat=True, **kw), tokens_and_mask
    ),
    "transformer_block_cross": Unit(lambda **kw: TransformerBlock(2, 8, cross=True, **kw), cross),
    "zero_masked": Unit(ZeroMasked, tokens_and_mask, float32=True),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("unit", UNITS)
def test_contract(unit, check, tmp_path):
    check(UNITS[unit], tmp_path)


def test_every_layer_is_here():
    classes = {
        cls
        for module in (mk.layers, base)
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, keras.layers.Layer)
    }
    assert classes == {type(unit.layer()) for unit in UNITS.values()}


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "bool"])
def test_zero_masked_keeps_the_dtype(dtype):
    value = np.ones((2, 3), dtype)
    with_policy = ZeroMasked(dtype="mixed_float16")
    assert with_policy(value, np.array([True, False])).dtype == dtype
    assert with_policy(keras.Input((3,), dtype=dtype), keras.Input((), dtype="bool")).dtype == dtype
