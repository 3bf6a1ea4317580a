"""Graphs: inputs -> encoders -> fusion -> heads, with keras alone."""

from mmkeras.models.graph import graph
from mmkeras.models.levels import reads_encoders

__all__ = ["graph", "reads_encoders"]
