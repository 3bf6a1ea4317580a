"""Objectives: losses of a whole batch, exact on any number of replicas."""

from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.distillation import FeatureTargets, SoftTargets, soft_targets
from mmkeras.objectives.hard import hard_nce
from mmkeras.objectives.joint_embedding import JointEmbedding
from mmkeras.objectives.masked_text import MaskedText
from mmkeras.objectives.masked_values import MaskedFrames, MaskedPatches
from mmkeras.objectives.matching import Matching
from mmkeras.objectives.momentum import MomentumContrastive
from mmkeras.objectives.pairs import Contrastive
from mmkeras.objectives.queue import queue_nce
from mmkeras.objectives.redundancy import barlow_twins, cca, vicreg
from mmkeras.objectives.translation import Translation

__all__ = [
    "Contrastive",
    "FeatureTargets",
    "JointEmbedding",
    "MaskedFrames",
    "MaskedPatches",
    "MaskedText",
    "Matching",
    "MomentumContrastive",
    "Objective",
    "SoftTargets",
    "Translation",
    "barlow_twins",
    "cca",
    "hard_nce",
    "info_nce",
    "queue_nce",
    "siglip",
    "soft_targets",
    "triplet",
    "vicreg",
]
