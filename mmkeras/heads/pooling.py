"""How log probabilities of several decisions become those of one.

log_p: (B, M, ..., C), of M decisions among C classes. weights: (B, M), adding up to 1; a decision
of weight 0 changes nothing.
"""

import math
from typing import Any

from keras import ops

NEVER = -1e9
TIE = 1e-3
"""Share of the mean probability in a vote: it decides ties, and keeps the logarithm finite."""


def mean_of(log_p: Any, weights: Any) -> Any:
    """Returns the logarithm of sum_m w_m p_m, (B, ..., C)."""
    return ops.logsumexp(log_p + _log(_spread(weights, log_p)), axis=1)


def vote_of(log_p: Any, weights: Any) -> Any:
    """Returns the logarithm of (1 - TIE) sum_m w_m [class is the likeliest of m] + TIE mean."""
    likeliest = ops.one_hot(ops.argmax(log_p, axis=-1), log_p.shape[-1], dtype=log_p.dtype)
    share = ops.sum(likeliest * _spread(weights, log_p), axis=1)
    return ops.logaddexp(_log((1.0 - TIE) * share), mean_of(log_p, weights) + math.log(TIE))


def _log(x: Any) -> Any:
    return ops.where(x > 0.0, ops.log(ops.where(x > 0.0, x, 1.0)), NEVER)


def _spread(weights: Any, like: Any) -> Any:
    return ops.reshape(weights, (-1, like.shape[1], *[1] * (len(like.shape) - 2)))
