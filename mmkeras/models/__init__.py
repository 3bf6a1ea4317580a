"""Graphs (inputs -> encoders -> fusion -> heads) and the named systems, with keras alone."""

from mmkeras.models.albef_like import albef_like
from mmkeras.models.bert_like import bert_like
from mmkeras.models.clip import clip, siglip
from mmkeras.models.graph import graph
from mmkeras.models.levels import reads_encoders
from mmkeras.models.towers import objective_of, tower

__all__ = [
    "albef_like",
    "bert_like",
    "clip",
    "graph",
    "objective_of",
    "reads_encoders",
    "siglip",
    "tower",
]
