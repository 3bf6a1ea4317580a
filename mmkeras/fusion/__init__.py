"""Fusions: one layer per file, all under one mask contract (see `Fusion`)."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import resolve
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.block import BlockFusion
from mmkeras.fusion.compact_bilinear import CompactBilinearFusion
from mmkeras.fusion.concatenation import ConcatenationFusion
from mmkeras.fusion.cross_attention import CrossAttentionFusion
from mmkeras.fusion.film import FiLMFusion
from mmkeras.fusion.gated import GatedFusion
from mmkeras.fusion.hypernetwork import HypernetworkFusion
from mmkeras.fusion.late_transformer import LateTransformerFusion
from mmkeras.fusion.low_rank import LowRankFusion
from mmkeras.fusion.mfb import MFBFusion
from mmkeras.fusion.mfh import MFHFusion
from mmkeras.fusion.mlb import MLBFusion
from mmkeras.fusion.multiplicative import MultiplicativeFusion
from mmkeras.fusion.mutan import MUTANFusion
from mmkeras.fusion.non_local_gate import NonLocalGateFusion
from mmkeras.fusion.tensor_fusion import TensorFusion
from mmkeras.fusion.weighted_sum import WeightedSumFusion

FUSIONS = {
    "block": BlockFusion,
    "compact_bilinear": CompactBilinearFusion,
    "concatenation": ConcatenationFusion,
    "cross_attention": CrossAttentionFusion,
    "film": FiLMFusion,
    "gated": GatedFusion,
    "hypernetwork": HypernetworkFusion,
    "late_transformer": LateTransformerFusion,
    "low_rank": LowRankFusion,
    "mfb": MFBFusion,
    "mfh": MFHFusion,
    "mlb": MLBFusion,
    "multiplicative": MultiplicativeFusion,
    "mutan": MUTANFusion,
    "non_local_gate": NonLocalGateFusion,
    "tensor_fusion": TensorFusion,
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
