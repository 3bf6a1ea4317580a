"""Heads: layers from a fusion's output to float32 predictions, with default loss and metrics."""

from mmkeras.heads.base import Head, head_of
from mmkeras.heads.classifier import Classifier
from mmkeras.heads.decision import Decision
from mmkeras.heads.dirichlet import Dirichlet
from mmkeras.heads.multi_label import MultiLabel
from mmkeras.heads.regressor import Regressor

__all__ = [
    "Classifier",
    "Decision",
    "Dirichlet",
    "Head",
    "MultiLabel",
    "Regressor",
    "head_of",
]
