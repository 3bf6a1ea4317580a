"""Evaluation over a whole set, where a mean over batches is not the figure."""

from mmkeras.evaluation.embeddings import described, embeddings
from mmkeras.evaluation.retrieval import retrieval

__all__ = ["described", "embeddings", "retrieval"]
