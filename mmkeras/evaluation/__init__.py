"""Evaluation over a whole set, where a mean over batches is not the figure."""

from mmkeras.evaluation.embeddings import embed, embeddings
from mmkeras.evaluation.nearest import nearest, retrieve
from mmkeras.evaluation.retrieval import cross_retrieval, retrieval
from mmkeras.evaluation.zero_shot import accuracy, described, zero_shot

__all__ = [
    "accuracy",
    "cross_retrieval",
    "described",
    "embed",
    "embeddings",
    "nearest",
    "retrieval",
    "retrieve",
    "zero_shot",
]
