"""Numbers without order in time."""

import math
from dataclasses import dataclass
from typing import ClassVar

from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Vector(Modality):
    """Numbers without order in time: float32 (F,), standardised.

    Args:
        size: F.
        mean, scale: per number; the value becomes (raw - mean) / scale. Learnt from the training
            rows when None (a constant column gets scale 1).
        normalize: False leaves the numbers as they are.
    """

    kind: ClassVar[str] = "vector"
    raw_dtype: ClassVar[str] = "float32"

    size: int = 1
    normalize: bool = True
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("size")
        for name in ("mean", "scale"):
            if getattr(self, name) is not None:
                self._set(name, self._statistic(name))

    def _statistic(self, name: str) -> tuple[float, ...]:
        value = tuple(float(v) for v in getattr(self, name))
        if len(value) != self.size:
            raise ValueError(
                f"`{name}` must hold `size`={self.size} numbers. Received: {len(value)}."
            )
        if not all(map(math.isfinite, value)) or (name == "scale" and min(value) <= 0):
            raise ValueError(
                f"`{name}` must hold finite numbers{', above 0' if name == 'scale' else ''}. "
                f"Received: {value}. A constant column has scale 1."
            )
        return value

    shape = property(lambda self: (self.size,), doc="(F,).")
    raw_shape = property(lambda self: (self.size,), doc="(F,).")
    dtype = property(lambda self: "float32", doc="Standardised numbers.")
    adapted = property(
        lambda self: not self.normalize or (self.mean is not None and self.scale is not None),
        doc="Has its mean and scale.",
    )
