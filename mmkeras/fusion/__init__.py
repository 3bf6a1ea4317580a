"""Fusions: one layer per file, all under one mask contract (see `Fusion`)."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import resolve
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.concatenation import ConcatenationFusion
from mmkeras.fusion.cross_attention import CrossAttentionFusion
from mmkeras.fusion.film import FiLMFusion
from mmkeras.fusion.gated import GatedFusion
from mmkeras.fusion.late_averaging import LateAveragingFusion
from mmkeras.fusion.late_transformer import LateTransformerFusion
from mmkeras.fusion.memory import MemoryFusion
from mmkeras.fusion.mixture_of_experts import MixtureOfExpertsFusion
from mmkeras.fusion.product_of_experts import ProductOfExpertsFusion
from mmkeras.fusion.shared_private import SharedPrivateFusion
from mmkeras.fusion.stacking import StackingFusion
from mmkeras.fusion.trusted import TrustedFusion
from mmkeras.fusion.voting import VotingFusion
from mmkeras.fusion.weighted_sum import WeightedSumFusion

FUSIONS = {
    "concatenation": ConcatenationFusion,
    "cross_attention": CrossAttentionFusion,
    "film": FiLMFusion,
    "gated": GatedFusion,
    "late_averaging": LateAveragingFusion,
    "late_transformer": LateTransformerFusion,
    "memory_fusion": MemoryFusion,
    "mixture_of_experts": MixtureOfExpertsFusion,
    "product_of_experts": ProductOfExpertsFusion,
    "shared_private": SharedPrivateFusion,
    "stacking": StackingFusion,
    "trusted": TrustedFusion,
    "voting": VotingFusion,
    "weighted_sum": WeightedSumFusion,
}


def get(identifier: Any, modalities: Sequence[str], **defaults: Any) -> Any:
    """Returns a fusion layer.

    Args:
        identifier: a name of `FUSIONS`, a dict `{"name": ..., **arguments}`, or a layer.
        modalities: names in declared order.
        **defaults: arguments that the dict's own override.

    Raises:
        ValueError: unknown name; the text gives the nearest match.
    """
    if callable(identifier) and not isinstance(identifier, type):
        return identifier
    cls, overrides = resolve(identifier, FUSIONS, "fusion")
    return cls(modalities, **{**defaults, **overrides})


__all__ = ["FUSIONS", "get", "Fusion", *(cls.__name__ for cls in FUSIONS.values())]
