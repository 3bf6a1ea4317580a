"""InfoNCE that counts hard negatives for more."""

from typing import Any

from keras import ops

from mmkeras.objectives.partition import MASKED, log_partitions
from mmkeras.objectives.shares import Rows, cut, mean, positives, prepared


def hard_nce(
    a: Any,
    b: Any,
    *,
    scale: Any,
    hardness: float = 1.0,
    mask: Any = None,
    groups: Any = None,
    weights: Any = None,
    rows: Rows = None,
    tile: int | None = None,
) -> Any:
    """Symmetric InfoNCE whose negatives are weighted by how near they are.

    With z_ij = scale a_i . b_j, P(i) the positives of i, N(i) the other pairs, n = |N(i)| and
    h = hardness, a direction's loss is

        l_i = log(sum_{j in P(i)} exp z_ij + sum_{j in N(i)} w_ij exp z_ij) - mean_{j in P(i)} z_ij
        w_ij = n exp(h z_ij) / sum_{k in N(i)} exp(h z_ik)

    and 0 for a pair without negatives and other positives. Robinson, Chuang, Sra, Jegelka 2021
    (arXiv 2010.04592), without their correction for false negatives (tau+ = 0) and in both
    directions; the gradient goes through the weights, as theirs does. `hardness=0` is `info_nce`.

    Args:
        scale: inverse temperature, scalar.
        hardness: h, at least 0 (beta in the paper, which takes 0.5 to 2).
        a, b, mask, groups, weights, rows, tile: see `mmkeras.objectives.contrastive`.
    """
    a, b, mask = prepared(a, b, mask)
    scale = ops.cast(scale, "float32")
    mean_a, mean_b, count = positives(a, b, mask, groups)
    index = groups if groups is not None else ops.arange(ops.shape(a)[0], dtype="int32")
    negatives = cut(ops.sum(ops.cast(mask, "float32")) - count, rows)
    total = 0.0
    for x, y, mean_y in ((cut(a, rows), b, mean_b), (cut(b, rows), a, mean_a)):

        def log_sum(factor: float, same: bool, x: Any = x, y: Any = y) -> Any:
            among = (cut(index, rows), index, same)
            given = (x, y, factor * scale, cut(mask, rows), mask)
            return log_partitions(*given, tile=tile, both=False, among=among)[0]

        told = scale * ops.sum(x * cut(mean_y, rows), axis=-1)
        own = told if groups is None else log_sum(1.0, True)
        hard = log_sum(1.0 + hardness, False) - log_sum(hardness, False)
        hard = hard + ops.log(ops.maximum(negatives, 1.0))
        hard = ops.where(negatives > 0, hard, MASKED)
        total = total + own + ops.softplus(hard - own) - told
    return mean(total / 2, mask, weights, rows)
