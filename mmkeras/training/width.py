"""Matched budgets: the widest fusion whose whole model has at most so many parameters."""

from collections.abc import Callable

UNIT = 8
"""Widths are multiples of it, so that the usual numbers of attention heads divide them."""
WIDEST = 2048


def widest(count: Callable[[int], int], parameters: int, row: str) -> int:
    """Returns the largest `hidden_dim`, at most `WIDEST`, of a model within a budget.

    Args:
        count: hidden_dim -> parameters of the whole model, growing with it.
        parameters: the budget.
        row: whose budget it is, for the error.

    Raises:
        ValueError: the narrowest model is above the budget; the text gives the figures.
    """
    least = count(UNIT)
    if least > parameters:
        raise ValueError(
            f"The budget must hold the narrowest model of every row. Received: parameters="
            f"{parameters}, but {row!r} has {least} at hidden_dim={UNIT}. Take a larger budget or "
            "smaller encoders, or leave this row out."
        )
    low, high, end = 1, 2, WIDEST // UNIT + 1
    while high < end and count(high * UNIT) <= parameters:
        low, high = high, 2 * high
    high = min(high, end)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * UNIT) <= parameters else (low, middle)
    return low * UNIT
