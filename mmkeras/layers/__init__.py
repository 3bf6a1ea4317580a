"""Blocks that know no modality: masking, norms, pooling, transformer, positions, audio features."""

from mmkeras.layers.absent import AbsentToken
from mmkeras.layers.audio_features import MFCC, LogMel, SpecAugment
from mmkeras.layers.center import CenterFrames
from mmkeras.layers.items import JoinItems, MergeItems, SplitItems
from mmkeras.layers.masked_norm import MaskedGroupNorm, groups_of
from mmkeras.layers.masking import MeanToken, ZeroMasked, masked_mean
from mmkeras.layers.max_pool import MaxPool3D
from mmkeras.layers.pixels import NormalizePixels
from mmkeras.layers.positions import LearnedPositions
from mmkeras.layers.random_masks import HideSpans, KeepTokens, MaskTokens
from mmkeras.layers.targets import PatchTargets, SpanTargets
from mmkeras.layers.transformer import TransformerBlock

__all__ = [
    "MFCC",
    "MaskTokens",
    "AbsentToken",
    "CenterFrames",
    "HideSpans",
    "JoinItems",
    "KeepTokens",
    "LearnedPositions",
    "LogMel",
    "MaskedGroupNorm",
    "MaxPool3D",
    "MeanToken",
    "MergeItems",
    "NormalizePixels",
    "PatchTargets",
    "SpanTargets",
    "SpecAugment",
    "SplitItems",
    "TransformerBlock",
    "ZeroMasked",
    "groups_of",
    "masked_mean",
]
