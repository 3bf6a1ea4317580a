"""Mean and scale of standardised numbers, as a spec holds them."""

import math
from collections.abc import Iterable


def statistic(name: str, value: Iterable[float], size: int, each: str) -> tuple[float, ...]:
    """Returns `value` as a tuple of floats, or raises: `size` finite ones, of scales above 0.

    Args:
        name: "mean" or "scale".
        value: numbers.
        size: how many there must be.
        each: what there is one number for, in the words of the error, e.g. "`size`".
    """
    value = tuple(float(v) for v in value)
    if len(value) != size:
        raise ValueError(f"`{name}` must hold {each}={size} numbers. Received: {len(value)}.")
    if not all(map(math.isfinite, value)) or (name == "scale" and min(value, default=1.0) <= 0):
        raise ValueError(
            f"`{name}` must hold finite numbers{', above 0' if name == 'scale' else ''}. "
            f"Received: {value}. A constant column has scale 1."
        )
    return value
