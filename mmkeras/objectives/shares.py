"""What contrastive losses begin and end with: mask, positives, share of the rows, mean."""

from typing import Any

from keras import ops

from mmkeras.layers.masking import zero_masked

Rows = tuple[Any, int] | None


def prepared(a: Any, b: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Both in float32 and zero behind the mask, and the mask."""
    mask = ops.ones(ops.shape(a)[:1], "bool") if mask is None else ops.cast(mask, "bool")
    return *(zero_masked(ops.cast(x, "float32"), mask) for x in (a, b)), mask


def positives(a: Any, b: Any, mask: Any, groups: Any) -> tuple[Any, Any, Any]:
    """Means of a and of b over each pair's positives, and how many those are."""
    inside = ops.cast(mask, "float32")
    if groups is None:
        return a, b, inside
    size = ops.shape(a)[0]
    first = ops.searchsorted(ops.sort(groups), groups)  # the same number for the same group

    def over_group(x: Any) -> Any:
        return ops.take(ops.segment_sum(x, first, num_segments=size), first, axis=0)

    count = over_group(inside)
    share = ops.maximum(count, 1.0)[:, None]
    return over_group(a) / share, over_group(b) / share, count


def cut(x: Any, rows: Rows) -> Any:
    """The rows of a share."""
    if rows is None:
        return x
    start = [rows[0]] + [0] * (len(x.shape) - 1)
    return ops.slice(x, start, (rows[1], *x.shape[1:]))


def mean(each: Any, mask: Any, weights: Any, rows: Rows) -> Any:
    """The rows' part in the mean over the pairs that are there."""
    each = zero_masked(each, cut(mask, rows))
    if weights is not None:
        each = each * cut(zero_masked(ops.cast(weights, "float32"), mask), rows)
    return ops.sum(each) / ops.maximum(ops.sum(ops.cast(mask, "float32")), 1.0)
