"""Losses of the statistics of a batch of pairs, which need no negatives; in `keras.ops`.

All take two sets of N embeddings whose rows belong together. None of them normalises the rows: the
columns are what they look at.

Args of all of them:
    a, b: (N, D).
    mask: bool (N,), which pairs are there; None for all. What stands behind a false mask changes
        no bit.
    weights: float (N,): a pair of weight 2 counts as two pairs.

All return a float32 scalar; zero, without gradient, where fewer than two pairs are there. A batch
of statistics is one of a few times as many pairs as columns or more.
"""

from typing import Any

from keras import ops

from mmkeras.layers.masking import zero_masked

TINY = 1e-12


def vicreg(
    a: Any,
    b: Any,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    mask: Any = None,
    weights: Any = None,
) -> Any:
    """Variance-invariance-covariance regularisation (Bardes, Ponce, LeCun 2022, arXiv 2105.04906).

        invariance  mean_i mean_d (a_id - b_id)^2
        variance    (v(a) + v(b)) / 2,   v(z) = mean_d [1 - sqrt(var_d(z) + 1e-4)]_+
        covariance  c(a) + c(b),         c(z) = (1 / D) sum_{d != e} cov_de(z)^2

    with var and cov over n - 1. As published with the default coefficients, the first is a mean
    over the columns too and the second is halved, where equations 1 to 6 have sums.

    Args:
        invariance, variance, covariance: coefficients.
        a, b, mask, weights: see the module.
    """
    a, b, share, count = _prepared(a, b, mask, weights)
    dim = a.shape[1]
    near = ops.sum(share[:, None] * ops.square(a - b)) / (ops.maximum(count, 1.0) * dim)
    spread, crossed = 0.0, 0.0
    for z in (a, b):
        cov = _cross(_centred(z, share, count), _centred(z, share, count), share, count)
        own = ops.diagonal(cov)
        spread = spread + ops.mean(ops.relu(1.0 - ops.sqrt(ops.maximum(own, 0.0) + 1e-4)))
        crossed = crossed + (ops.sum(ops.square(cov)) - ops.sum(ops.square(own))) / dim
    return _defined(invariance * near + variance * spread / 2 + covariance * crossed, count)


def barlow_twins(
    a: Any, b: Any, *, off_diagonal: float = 5e-3, mask: Any = None, weights: Any = None
) -> Any:
    """Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230), equations 1 and 2.

        sum_d (1 - C_dd)^2 + off_diagonal sum_{d != e} C_de^2

    with C_de the correlation of column d of a and e of b; 0 for a column without variance.

    Args:
        off_diagonal: coefficient, lambda.
        a, b, mask, weights: see the module.
    """
    a, b, share, count = _prepared(a, b, mask, weights)
    a, b = (_scaled(_centred(z, share, count), share) for z in (a, b))
    c = ops.matmul(ops.transpose(a * share[:, None]), b)
    own = ops.diagonal(c)
    rest = ops.sum(ops.square(c)) - ops.sum(ops.square(own))
    return _defined(ops.sum(ops.square(1.0 - own)) + off_diagonal * rest, count)


def cca(
    a: Any,
    b: Any,
    *,
    components: int | None = None,
    regularization: float = 1e-3,
    mask: Any = None,
    weights: Any = None,
) -> Any:
    """Minus the sum of the canonical correlations: deep CCA (Andrew et al. 2013, ICML).

    With S the covariances (over n - 1; `regularization` added to the diagonals of S_aa and S_bb),
    the correlations are the singular values of S_aa^-1/2 S_ab S_bb^-1/2, which here come from
    Cholesky factors in place of the roots, with the same singular values. The gradient is that of
    the sum of the largest, u_k v_k^T, and not one through the decomposition, which has poles where
    two correlations are equal.

    Args:
        components: how many of the largest are summed; None for all D.
        regularization: above 0; of the covariances.
        a, b, mask, weights: see the module.
    """
    a, b, share, count = _prepared(a, b, mask, weights)
    a, b = (_centred(z, share, count) for z in (a, b))
    ridge = regularization * ops.eye(a.shape[1])
    root_a, root_b = (ops.cholesky(_cross(z, z, share, count) + ridge) for z in (a, b))
    half = ops.solve_triangular(root_a, _cross(a, b, share, count), lower=True)
    t = ops.transpose(ops.solve_triangular(root_b, ops.transpose(half), lower=True))
    u, _, vh = ops.svd(ops.stop_gradient(t), full_matrices=False)
    direction = ops.matmul(u[:, :components], vh[:components])
    return _defined(-ops.sum(ops.stop_gradient(direction) * t), count)


def _prepared(a: Any, b: Any, mask: Any, weights: Any) -> tuple:
    """Rows without what is masked, by how much each counts (N,), and the sum of that."""
    a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
    mask = ops.ones(ops.shape(a)[:1], "bool") if mask is None else ops.cast(mask, "bool")
    share = ops.cast(mask, "float32")
    if weights is not None:
        share = zero_masked(ops.cast(weights, "float32"), mask)
    return zero_masked(a, mask), zero_masked(b, mask), share, ops.sum(share)


def _centred(z: Any, share: Any, count: Any) -> Any:
    """Minus the mean; zero where a row does not count."""
    mean = ops.sum(share[:, None] * z, axis=0, keepdims=True) / ops.maximum(count, 1.0)
    return zero_masked(z - mean, share > 0.0)


def _cross(a: Any, b: Any, share: Any, count: Any) -> Any:
    """Covariance (D, D) of centred columns."""
    return ops.matmul(ops.transpose(a * share[:, None]), b) / ops.maximum(count - 1.0, 1.0)


def _scaled(z: Any, share: Any) -> Any:
    """Columns of unit length; of a column of zeros, zeros."""
    square = ops.sum(share[:, None] * ops.square(z), axis=0, keepdims=True)
    return z * ops.rsqrt(ops.maximum(square, TINY))


def _defined(loss: Any, count: Any) -> Any:
    return ops.where(count > 1.0, loss, ops.zeros_like(loss))
