"""Fusions: one layer per file, all under one mask contract (see `Fusion`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmkeras.core import resolve
from mmkeras.fusion.attention_pooling import AttentionPoolingFusion
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.block import BlockFusion
from mmkeras.fusion.bottleneck import BottleneckFusion
from mmkeras.fusion.co_attention import CoAttentionFusion
from mmkeras.fusion.compact_bilinear import CompactBilinearFusion
from mmkeras.fusion.concatenation import ConcatenationFusion
from mmkeras.fusion.cross_attention import CrossAttentionFusion
from mmkeras.fusion.deep_sets import DeepSetsFusion
from mmkeras.fusion.early_transformer import EarlyTransformerFusion
from mmkeras.fusion.film import FiLMFusion
from mmkeras.fusion.gated import GatedFusion
from mmkeras.fusion.hierarchical_attention import HierarchicalAttentionFusion
from mmkeras.fusion.highway import HighwayFusion
from mmkeras.fusion.hybrid import LEVELS, HybridFusion
from mmkeras.fusion.hypernetwork import HypernetworkFusion
from mmkeras.fusion.late_averaging import LateAveragingFusion
from mmkeras.fusion.late_transformer import LateTransformerFusion
from mmkeras.fusion.low_rank import LowRankFusion
from mmkeras.fusion.max_pooling import MaxPoolingFusion
from mmkeras.fusion.memory import MemoryFusion
from mmkeras.fusion.mfb import MFBFusion
from mmkeras.fusion.mfh import MFHFusion
from mmkeras.fusion.mid_transformer import MidTransformerFusion
from mmkeras.fusion.mixture_of_experts import MixtureOfExpertsFusion
from mmkeras.fusion.mlb import MLBFusion
from mmkeras.fusion.mlp import MLPFusion
from mmkeras.fusion.mult import MulTFusion
from mmkeras.fusion.multiplicative import MultiplicativeFusion
from mmkeras.fusion.mutan import MUTANFusion
from mmkeras.fusion.non_local_gate import NonLocalGateFusion
from mmkeras.fusion.pairwise_cross_attention import PairwiseCrossAttentionFusion
from mmkeras.fusion.perceiver_resampler import PerceiverResamplerFusion
from mmkeras.fusion.product_of_experts import ProductOfExpertsFusion
from mmkeras.fusion.q_former import QFormerFusion
from mmkeras.fusion.shared_private import SharedPrivateFusion
from mmkeras.fusion.squeeze_excitation import SqueezeExcitationFusion
from mmkeras.fusion.stacking import StackingFusion
from mmkeras.fusion.sum import SumFusion
from mmkeras.fusion.tensor_fusion import TensorFusion
from mmkeras.fusion.trusted import TrustedFusion
from mmkeras.fusion.voting import VotingFusion
from mmkeras.fusion.weighted_sum import WeightedSumFusion

FUSIONS = {
    "attention_pooling": AttentionPoolingFusion,
    "block": BlockFusion,
    "bottleneck": BottleneckFusion,
    "co_attention": CoAttentionFusion,
    "compact_bilinear": CompactBilinearFusion,
    "concatenation": ConcatenationFusion,
    "cross_attention": CrossAttentionFusion,
    "deep_sets": DeepSetsFusion,
    "early_transformer": EarlyTransformerFusion,
    "film": FiLMFusion,
    "gated": GatedFusion,
    "hierarchical_attention": HierarchicalAttentionFusion,
    "highway": HighwayFusion,
    "hypernetwork": HypernetworkFusion,
    "late_averaging": LateAveragingFusion,
    "late_transformer": LateTransformerFusion,
    "low_rank": LowRankFusion,
    "max_pooling": MaxPoolingFusion,
    "memory_fusion": MemoryFusion,
    "mfb": MFBFusion,
    "mfh": MFHFusion,
    "mid_transformer": MidTransformerFusion,
    "mixture_of_experts": MixtureOfExpertsFusion,
    "mlb": MLBFusion,
    "mlp": MLPFusion,
    "mult": MulTFusion,
    "multiplicative": MultiplicativeFusion,
    "mutan": MUTANFusion,
    "non_local_gate": NonLocalGateFusion,
    "pairwise_cross_attention": PairwiseCrossAttentionFusion,
    "perceiver_resampler": PerceiverResamplerFusion,
    "product_of_experts": ProductOfExpertsFusion,
    "q_former": QFormerFusion,
    "shared_private": SharedPrivateFusion,
    "squeeze_excitation": SqueezeExcitationFusion,
    "stacking": StackingFusion,
    "sum": SumFusion,
    "tensor_fusion": TensorFusion,
    "trusted": TrustedFusion,
    "voting": VotingFusion,
    "weighted_sum": WeightedSumFusion,
}


def class_of(identifier: Any) -> tuple[type, dict]:
    """Returns `(class, arguments)` of a name, a subclass of `Fusion`, or a dict of either.

    Raises:
        ValueError: unknown name; the text gives the nearest match.
        TypeError: something else.
    """
    given = identifier if isinstance(identifier, Mapping) else {"name": identifier}
    cls = given.get("name")
    if isinstance(cls, type) and issubclass(cls, Fusion):
        return cls, {key: value for key, value in given.items() if key != "name"}
    return resolve(identifier, FUSIONS, "fusion")


def get(identifier: Any, modalities: Sequence[str], **defaults: Any) -> Any:
    """Returns a fusion layer.

    Args:
        identifier: a name of `FUSIONS`, a subclass of `Fusion`, a dict `{"name": ...,
            **arguments}` of either, or a layer.
        modalities: names in declared order.
        **defaults: arguments that the dict's own override.

    Raises:
        ValueError: unknown name; the text gives the nearest match.
        TypeError: none of these.
    """
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    cls, overrides = class_of(identifier)
    return cls(modalities, **{**defaults, **overrides})


__all__ = [
    "FUSIONS",
    "LEVELS",
    "class_of",
    "get",
    "Fusion",
    "HybridFusion",
    *(cls.__name__ for cls in FUSIONS.values()),
]
