"""Sums over all pairs of two sets of embeddings, whole or tile by tile.

With `tile`, the (N, K) matrix of similarities is never there: rows are taken `tile` at a time,
and the gradient computes them anew, so that memory grows with N + K and not with N K, for one
more matrix product. The numbers are those of the whole matrix to float32 rounding.
"""

from typing import Any

from keras import ops

MASKED = -1e30


def log_partitions(
    a: Any,
    b: Any,
    scale: Any,
    mask_a: Any,
    mask_b: Any,
    *,
    tile: int | None = None,
    both: bool = True,
    among: tuple[Any, Any, bool] | None = None,
) -> tuple[Any, Any]:
    """log sum_j exp(scale a_i . b_j), over the valid j, for every i; and over i for every j.

    Args:
        a: float32 (N, D), zero behind its mask.
        b: float32 (K, D), likewise.
        scale: float32 scalar.
        mask_a, mask_b: bool (N,) and (K,); who is summed over.
        tile: rows at a time; None for all at once.
        both: False leaves the second one out (None).
        among: (groups of a, groups of b, same): only pairs of the same group are summed over, or
            only those of different ones; with `both=False`.

    Returns:
        (N,) and (K,); `MASKED` or about that where nothing is valid.
    """
    if tile is None:
        z = ops.matmul(scale * a, ops.transpose(b))
        rows = ops.logsumexp(_valid(z, _among(mask_b, among)), axis=1)
        return rows, ops.logsumexp(_valid(z, mask_a[:, None]), axis=0) if both else None
    filled, mask_a = _filled_up(a, tile), _filled_up(mask_a, tile)
    if among is not None:
        among = (_filled_up(among[0], tile), *among[1:])
    rows, columns = _tiled_partitions(filled, b, scale, mask_a, mask_b, tile, both, among)
    return rows[: ops.shape(a)[0]], columns if both else None


def _tiled_partitions(
    a: Any, b: Any, scale: Any, mask_a: Any, mask_b: Any, tile: int, both: bool, among: Any
) -> tuple[Any, Any]:
    def candidates(i: Any) -> Any:
        return _among(mask_b, among, lambda groups: _part(i, groups, tile))

    @ops.custom_gradient
    def summed(a: Any, b: Any, scale: Any) -> tuple[Any, Any]:
        def forward(i: Any, carry: tuple) -> tuple:
            x, inside = _part(i, a, tile), _part(i, mask_a, tile)
            z = ops.matmul(scale * x, ops.transpose(b))
            rows, largest, total = carry
            rows = _put(i, rows, ops.logsumexp(_valid(z, candidates(i)), axis=1))
            if both:
                z = _valid(z, inside[:, None])
                before, largest = largest, ops.maximum(largest, ops.max(z, axis=0))
                total = total * ops.exp(before - largest) + ops.sum(ops.exp(z - largest), axis=0)
            return rows, largest, total

        none = ops.full(ops.shape(b)[:1], MASKED, "float32")
        start = (ops.zeros(ops.shape(a)[:1]), none, ops.zeros_like(none))
        rows, largest, total = ops.fori_loop(0, ops.shape(a)[0] // tile, forward, start)
        columns = largest + ops.log(ops.maximum(total, 1e-37))

        def grad(*args: Any, upstream: Any = None) -> tuple:
            given = upstream if upstream is not None else args
            d_rows, d_columns = given[0] if len(given) == 1 else given  # JAX gives one tuple

            def backward(i: Any, carry: tuple) -> tuple:
                x, inside = _part(i, a, tile), _part(i, mask_a, tile)
                z = ops.matmul(scale * x, ops.transpose(b))
                d = ops.exp(_valid(z, candidates(i)) - _part(i, rows, tile)[:, None])
                d = d * _part(i, d_rows, tile)[:, None]
                if both:
                    d = d + ops.exp(_valid(z, inside[:, None]) - columns) * d_columns
                d_a = _put(i, carry[0], ops.matmul(d, b))
                return d_a, carry[1] + ops.matmul(ops.transpose(d), x)

            start = (ops.zeros_like(a), ops.zeros_like(b))
            d_a, d_b = ops.fori_loop(0, ops.shape(a)[0] // tile, backward, start)
            return scale * d_a, scale * d_b, ops.sum(d_a * a)

        return (rows, columns), grad

    return summed(a, b, scale)


def softplus_sums(
    a: Any, b: Any, scale: Any, bias: Any, mask_b: Any, *, tile: int | None = None
) -> Any:
    """sum_j softplus(scale a_i . b_j + bias), over the valid j, for every i: (N,).

    Args as of `log_partitions`; `bias` is a float32 scalar.
    """
    inside = ops.cast(mask_b, "float32")
    if tile is None:
        z = ops.matmul(scale * a, ops.transpose(b)) + bias
        return ops.sum(ops.softplus(z) * inside, axis=1)

    @ops.custom_gradient
    def summed(a: Any, b: Any, scale: Any, bias: Any) -> Any:
        def forward(i: Any, sums: Any) -> Any:
            z = ops.matmul(scale * _part(i, a, tile), ops.transpose(b)) + bias
            return _put(i, sums, ops.sum(ops.softplus(z) * inside, axis=1))

        sums = ops.fori_loop(0, ops.shape(a)[0] // tile, forward, ops.zeros(ops.shape(a)[:1]))

        def grad(*args: Any, upstream: Any = None) -> tuple:
            d_sums = upstream if upstream is not None else args[0]

            def backward(i: Any, carry: tuple) -> tuple:
                x = _part(i, a, tile)
                z = ops.matmul(scale * x, ops.transpose(b)) + bias
                d = ops.sigmoid(z) * inside * _part(i, d_sums, tile)[:, None]
                d_b = carry[1] + ops.matmul(ops.transpose(d), x)
                return _put(i, carry[0], ops.matmul(d, b)), d_b, carry[2] + ops.sum(d)

            start = (ops.zeros_like(a), ops.zeros_like(b), ops.zeros(()))
            d_a, d_b, d_bias = ops.fori_loop(0, ops.shape(a)[0] // tile, backward, start)
            return scale * d_a, scale * d_b, ops.sum(d_a * a), d_bias

        return sums, grad

    return summed(_filled_up(a, tile), b, scale, bias)[: ops.shape(a)[0]]


def _among(mask: Any, among: Any, part: Any = lambda groups: groups) -> Any:
    """Who is summed over, (1 or rows, K)."""
    if among is None:
        return mask[None, :]
    equal = part(among[0])[:, None] == among[1][None, :]
    return mask[None, :] & (equal if among[2] else ~equal)


def _valid(z: Any, mask: Any) -> Any:
    return ops.where(mask, z, MASKED)


def _part(i: Any, x: Any, tile: int) -> Any:
    """Tile i of the rows."""
    return ops.slice(x, [i * tile] + [0] * (len(x.shape) - 1), (tile, *x.shape[1:]))


def _put(i: Any, x: Any, rows: Any) -> Any:
    """`x` with tile i replaced."""
    return ops.slice_update(x, [i * rows.shape[0]] + [0] * (len(x.shape) - 1), rows)


def _filled_up(x: Any, tile: int) -> Any:
    """The rows, and zeros up to a multiple of `tile`."""
    missing = -ops.shape(x)[0] % tile
    return ops.concatenate([x, ops.zeros((missing, *x.shape[1:]), x.dtype)], axis=0)
