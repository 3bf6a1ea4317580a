"""Graphs (inputs -> encoders -> fusion -> heads) and the named systems, with keras alone."""

from mmkeras.models.clip import clip, siglip
from mmkeras.models.graph import graph
from mmkeras.models.levels import reads_encoders
from mmkeras.models.towers import objective_of, tower

__all__ = ["clip", "graph", "objective_of", "reads_encoders", "siglip", "tower"]
