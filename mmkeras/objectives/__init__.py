"""Objectives: losses of a whole batch, exact on any number of replicas."""

from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.distillation import FeatureTargets, SoftTargets, soft_targets
from mmkeras.objectives.joint_embedding import JointEmbedding
from mmkeras.objectives.pairs import Contrastive
from mmkeras.objectives.redundancy import barlow_twins, cca, vicreg
from mmkeras.objectives.translation import Translation

__all__ = [
    "Contrastive",
    "FeatureTargets",
    "JointEmbedding",
    "Objective",
    "SoftTargets",
    "Translation",
    "barlow_twins",
    "cca",
    "info_nce",
    "siglip",
    "soft_targets",
    "triplet",
    "vicreg",
]
