"""Sizes of an encoder by name, as its paper gives them."""

from collections.abc import Mapping
from typing import Any

from mmkeras.core.identifiers import nearest


def sizes(variant: str | Mapping[str, Any], table: Mapping[str, Mapping]) -> dict[str, Any]:
    """Returns the sizes of a variant.

    Args:
        variant: a name of `table`, or a dict of sizes that replaces some of the first of `table`.
        table: the encoder's literal table, name -> sizes.

    Raises:
        ValueError: an unknown name or size.
    """
    first = dict(next(iter(table.values())))
    if not isinstance(variant, Mapping):
        if variant not in table:
            raise ValueError(
                f"Unknown variant {variant!r}. {nearest(variant, table)} Or give a dict with some "
                f"of {sorted(first)}."
            )
        return dict(table[variant])
    for name in variant:
        if name not in first:
            raise ValueError(f"A variant has no size {name!r}. {nearest(name, first)}")
    return {**first, **variant}
