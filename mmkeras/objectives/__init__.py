"""Objectives: losses of a whole batch, exact on any number of replicas."""

from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.masked_text import MaskedText
from mmkeras.objectives.masked_values import MaskedFrames, MaskedPatches
from mmkeras.objectives.matching import Matching
from mmkeras.objectives.pairs import Contrastive

__all__ = [
    "Contrastive",
    "MaskedFrames",
    "MaskedPatches",
    "MaskedText",
    "Matching",
    "Objective",
    "info_nce",
    "siglip",
    "triplet",
]
