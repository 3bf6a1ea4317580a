"""InfoNCE against a queue of embeddings of earlier batches, and the queue."""

from typing import Any

from keras import ops

from mmkeras.layers.masking import zero_masked
from mmkeras.objectives.partition import MASKED
from mmkeras.objectives.shares import Rows, cut, mean, prepared


def queue_nce(
    a: Any,
    b: Any,
    *,
    keys: tuple[Any, Any],
    queues: tuple[Any, Any],
    scale: Any,
    soft: float = 0.0,
    mask: Any = None,
    weights: Any = None,
    rows: Rows = None,
) -> Any:
    """Symmetric InfoNCE among the keys of the batch and those of a queue.

    With the candidates c_j of a direction, which are the keys of the other set and then its queue,
    z_ij = scale a_i . c_j, and q_ij = softmax_j(scale k_i . c_j) of the pair's own key k_i,

        l_i = log sum_j exp z_ij - (1 - soft) z_ii - soft sum_j q_ij z_ij

    and the loss is the mean of both directions. The queue is that of MoCo (He et al. 2020, arXiv
    1911.05722), for two modalities and with the soft targets of ALBEF (Li et al. 2021, arXiv
    2107.07651). No gradient goes to keys, queues and q. The rows' (N, N + K) similarities are held.

    Args:
        keys: (N, D) of a's samples and of b's, of the momentum copy.
        queues: (K, D), the earlier keys of a and of b; a row of zeros is empty.
        scale: inverse temperature, scalar.
        soft: share of the soft targets, 0 to 1 (ALBEF: 0.4).
        a, b, mask, weights, rows: see `mmkeras.objectives.contrastive`. Behind the mask a pair's
            keys are no candidates either.
    """
    a, b, mask = prepared(a, b, mask)
    scale = ops.cast(scale, "float32")
    keys = [ops.stop_gradient(zero_masked(ops.cast(k, "float32"), mask)) for k in keys]
    total = 0.0
    for x, own, key, queue in ((a, *keys, queues[1]), (b, *keys[::-1], queues[0])):
        queue = ops.stop_gradient(queue)
        candidates = ops.concatenate([key, queue], axis=0)
        there = ops.concatenate([mask, real(queue)], axis=0)[None, :]
        x, target = cut(x, rows), cut(key, rows)
        if soft:
            z = ops.matmul(ops.stop_gradient(scale) * cut(own, rows), ops.transpose(candidates))
            likely = ops.matmul(ops.softmax(ops.where(there, z, MASKED), axis=1), candidates)
            target = (1.0 - soft) * target + soft * likely
        z = ops.where(there, ops.matmul(scale * x, ops.transpose(candidates)), MASKED)
        total = total + ops.logsumexp(z, axis=1) - scale * ops.sum(x * target, axis=-1)
    return mean(total / 2, mask, weights, rows)


def pushed(queue: Any, keys: Any) -> Any:
    """The queue after a batch: its newest K real rows, the oldest first.

    Args:
        queue: (K, D); rows of zeros are empty, and stand in front.
        keys: (N, D); rows of zeros are of absent samples, and do not enter.
    """
    rows = ops.concatenate([queue, keys], axis=0)
    count = ops.cumsum(ops.cast(real(rows), "int32"))
    size = ops.shape(queue)[0]
    rank = count[-1] - size + 1 + ops.arange(size, dtype="int32")
    newest = ops.take(rows, ops.searchsorted(count, rank), axis=0)
    return zero_masked(newest, rank > 0)


def real(rows: Any) -> Any:
    """bool (N,): which rows of (N, D) are not zero."""
    return ops.any(rows != 0, axis=-1)
