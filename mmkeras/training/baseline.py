"""The best constant answer: what a model must beat to have learnt anything."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def constant(data: Any, heads: Mapping[str, Any], split: str) -> dict[str, float]:
    """Returns the metrics of always giving the answer that fits the training rows best.

    Of a classifier the shares of the classes (so that it says the commonest), of several labels
    the share of each, of numbers the mean.

    Args:
        data: `mk.data.table(...)`.
        heads: output name -> head.
        split: where the answers are measured.

    Returns:
        Metrics under the names of `evaluate`, losses left out.
    """
    found = {}
    for name, head in heads.items():
        metrics = head.default_metrics() if hasattr(head, "default_metrics") else []
        truth = _known(data, split, name)
        answer = _answer(head, _known(data, "train", name))
        for metric in metrics:
            metric.update_state(truth, np.repeat(answer[None], len(truth), axis=0))
            prefix = "" if len(heads) == 1 else f"{name}_"
            found[prefix + metric.name] = float(metric.result())
    return found


def _known(data: Any, split: str, name: str) -> np.ndarray:
    """Returns the truth of the rows that have it."""
    truth = data.splits[split].truth
    return np.asarray(truth[name])[truth.get(f"{name}_mask", slice(None))]


def _answer(head: Any, truth: np.ndarray) -> np.ndarray:
    """Returns the constant output (units,)."""
    head = getattr(head, "head", head)  # of a Decision
    if not hasattr(head, "from_log_probabilities"):
        return truth.reshape(len(truth), -1).mean(axis=0).astype("float32")
    if truth.ndim == 1:
        share = np.bincount(truth, minlength=head.units) / len(truth)
    else:
        share = np.stack([truth.mean(axis=0), 1 - truth.mean(axis=0)], axis=-1)
    log_p = np.log(np.maximum(share, 1e-7)).astype("float32")
    return keras.ops.convert_to_numpy(head.from_log_probabilities(log_p))
