"""Contrastive losses of a batch of pairs: functions of embeddings, in `keras.ops`.

All take two sets of N embeddings whose rows belong together, and return the mean over the pairs.

Args of all of them:
    a, b: (N, D); of unit length where the formula has a cosine.
    mask: bool (N,), which pairs are there; None for all. What stands behind a false mask changes
        no bit: such a pair is neither a row nor a candidate.
    groups: integers (N,): pairs of the same group are positives of each other; None where every
        pair is a group of its own.
    weights: float (N,), of the pairs' losses; the mean divides by the number of pairs.
    rows: (start, size): only the share of these rows in the loss, for replicas that hold them;
        the shares add up to the loss. `size` is an int.
    tile: rows of the similarity matrix that are held at a time; None holds all. See
        `mmkeras.objectives.partition`.

All return a float32 scalar: zero where no pair is there.
"""

from typing import Any

from keras import ops

from mmkeras.layers.masking import zero_masked
from mmkeras.objectives.partition import MASKED, log_partitions, softplus_sums
from mmkeras.objectives.shares import Rows, cut, mean, positives, prepared


def info_nce(
    a: Any,
    b: Any,
    *,
    scale: Any,
    mask: Any = None,
    groups: Any = None,
    weights: Any = None,
    rows: Rows = None,
    tile: int | None = None,
) -> Any:
    """Symmetric InfoNCE: the mean of both directions' cross-entropy among the batch.

    With z_ij = scale a_i . b_j and P(i) the positives of i,

        l_i = (1 / 2) (log sum_j exp z_ij - mean_{j in P(i)} z_ij
                       + log sum_j exp z_ji - mean_{j in P(i)} z_ji)

    van den Oord, Li, Vinyals 2018 (arXiv 1807.03748) in the symmetric form of CLIP (Radford et
    al. 2021, arXiv 2103.00020); several positives as L_out of supervised contrastive learning
    (Khosla et al. 2020, arXiv 2004.11362), where positives stay among the candidates.

    Args:
        scale: inverse temperature, scalar.
        a, b, mask, groups, weights, rows, tile: see the module.
    """
    a, b, mask = prepared(a, b, mask)
    scale = ops.cast(scale, "float32")
    mean_a, mean_b, _ = positives(a, b, mask, groups)
    if rows is None:
        row, column = log_partitions(a, b, scale, mask, mask, tile=tile)
    else:
        row, _ = log_partitions(cut(a, rows), b, scale, mask, mask, tile=tile, both=False)
        column, _ = log_partitions(cut(b, rows), a, scale, mask, mask, tile=tile, both=False)
    told = ops.sum(cut(a, rows) * cut(mean_b, rows), -1)
    told = told + ops.sum(cut(b, rows) * cut(mean_a, rows), -1)
    return mean((row + column - scale * told) / 2, mask, weights, rows)


def siglip(
    a: Any,
    b: Any,
    *,
    scale: Any,
    bias: Any,
    mask: Any = None,
    groups: Any = None,
    weights: Any = None,
    rows: Rows = None,
    tile: int | None = None,
) -> Any:
    """The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv 2303.15343).

        l_i = sum_j softplus(-y_ij (scale a_i . b_j + bias)), y_ij = 1 for positives, else -1

    Args:
        scale, bias: scalars.
        a, b, mask, groups, weights, rows, tile: see the module.
    """
    a, b, mask = prepared(a, b, mask)
    scale, bias = ops.cast(scale, "float32"), ops.cast(bias, "float32")
    _, mean_b, count = positives(a, b, mask, groups)
    x = cut(a, rows)
    each = softplus_sums(x, b, scale, bias, mask, tile=tile)
    # softplus(-z) = softplus(z) - z
    told = scale * ops.sum(x * cut(mean_b, rows), -1) + bias
    return mean(each - cut(count, rows) * told, mask, weights, rows)


def triplet(
    a: Any,
    b: Any,
    *,
    margin: float = 0.2,
    negatives: str = "hardest",
    mask: Any = None,
    groups: Any = None,
    weights: Any = None,
    rows: Rows = None,
) -> Any:
    """Hinges between the similarity of a pair and those of its negatives, both directions.

        l_i = r_j [margin - a_i . b_i + a_i . b_j]_+ + r_j [margin - a_i . b_i + a_j . b_i]_+

    over the j of other groups. r: "hardest" takes the maximum (VSE++, Faghri et al. 2018, arXiv
    1707.05612); "all" the mean; "semi_hard" the hardest among those below the pair's own
    similarity, and the mildest of all where there is none (FaceNet, Schroff et al. 2015, arXiv
    1503.03832, which has Euclidean distances).

    Args:
        margin: of similarity.
        negatives: "hardest", "semi_hard" or "all".
        a, b, mask, groups, weights, rows: see the module.
    """
    a, b, mask = prepared(a, b, mask)
    index = groups if groups is not None else ops.arange(ops.shape(a)[0], dtype="int32")
    own = ops.sum(cut(a, rows) * cut(b, rows), axis=-1)[:, None]
    other = mask[None, :] & (cut(index, rows)[:, None] != index[None, :])
    total = 0.0
    for x, y in ((a, b), (b, a)):
        z = ops.matmul(cut(x, rows), ops.transpose(y))
        total = total + _hinge(z, own, other, margin, negatives)
    return mean(total, mask, weights, rows)


def _hinge(z: Any, own: Any, other: Any, margin: float, negatives: str) -> Any:
    if negatives == "all":
        each = zero_masked(ops.relu(margin - own + z), other)
        count = ops.sum(ops.cast(other, "float32"), axis=1)
        return ops.sum(each, axis=1) / ops.maximum(count, 1.0)
    hardest = ops.max(ops.where(other, z, MASKED), axis=1)
    if negatives == "semi_hard":
        below = other & (z < own)
        mildest = -ops.max(ops.where(other, -z, MASKED), axis=1)
        chosen = ops.max(ops.where(below, z, MASKED), axis=1)
        hardest = ops.where(ops.any(below, axis=1), chosen, mildest)
    return zero_masked(ops.relu(margin - own[:, 0] + hardest), ops.any(other, axis=1))
