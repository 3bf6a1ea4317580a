"""Objectives: losses of a whole batch, exact on any number of replicas."""

from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.hard import hard_nce
from mmkeras.objectives.momentum import MomentumContrastive
from mmkeras.objectives.pairs import Contrastive
from mmkeras.objectives.queue import queue_nce

__all__ = [
    "Contrastive",
    "MomentumContrastive",
    "Objective",
    "hard_nce",
    "info_nce",
    "queue_nce",
    "siglip",
    "triplet",
]
