"""Alignments: one layer per file, from the tokens of every modality into one space."""

from collections.abc import Sequence
from typing import Any

from mmkeras.alignment.base import Alignment
from mmkeras.alignment.linear import LinearAlignment
from mmkeras.alignment.multi_scale import MultiScaleAlignment
from mmkeras.alignment.nonlinear import NonlinearAlignment
from mmkeras.core import resolve

ALIGNMENTS = {
    "linear": LinearAlignment,
    "multi_scale": MultiScaleAlignment,
    "nonlinear": NonlinearAlignment,
}


def get(identifier: Any, modalities: Sequence[str], **defaults: Any) -> Any:
    """Returns an alignment layer, or None for None.

    Args:
        identifier: a name of `ALIGNMENTS`, a dict `{"name": ..., **arguments}`, a layer, or None.
        modalities: names in declared order.
        **defaults: arguments that the dict's own override.

    Raises:
        ValueError: unknown name; the text gives the nearest match.
    """
    if identifier is None or callable(identifier) and not isinstance(identifier, type):
        return identifier
    cls, overrides = resolve(identifier, ALIGNMENTS, "alignment")
    return cls(modalities, **{**defaults, **overrides})


__all__ = ["ALIGNMENTS", "get", "Alignment", *(cls.__name__ for cls in ALIGNMENTS.values())]
