"""Graphs: inputs -> encoders -> fusion -> heads, with keras alone."""

from mmkeras.models.albef_like import albef_like
from mmkeras.models.bert_like import bert_like
from mmkeras.models.graph import graph
from mmkeras.models.levels import reads_encoders

__all__ = ["albef_like", "bert_like", "graph", "reads_encoders"]
