"""Graphs: inputs -> encoders -> fusion -> heads, with keras alone."""

from mmkeras.models.graph import graph

__all__ = ["graph"]
