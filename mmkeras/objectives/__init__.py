"""Objectives: losses of a whole batch, exact on any number of replicas."""

from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.pairs import Contrastive

__all__ = ["Contrastive", "Objective", "info_nce", "siglip", "triplet"]
