"""Numbers, alone or in a sequence."""

from dataclasses import dataclass
from typing import ClassVar

from mmkeras.core.modalities.statistics import statistic
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Vector(Modality):
    """Numbers without order in time: float32 (F,), standardised; with `steps` T of them, (T, F).

    A sequence is for features over time: a raw item is (S, F), a row per step; longer ones are
    cut, shorter ones padded and masked, and a row with a NaN is a step that is not there.

    An item with a number beyond 1e9 as the model sees it, standardised or not, is unreadable: its
    products overflow.

    Args:
        size: F.
        normalize: False leaves the numbers as they are.
        mean, scale: per number; the value becomes (raw - mean) / scale. Learnt from the training
            rows when None (a constant column gets scale 1).
        steps: T of a sequence; None is a single vector.
    """

    kind: ClassVar[str] = "vector"
    raw_dtype: ClassVar[str] = "float32"

    size: int = 1
    normalize: bool = True
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("size")
        if self.steps is not None:
            self._whole("steps")
        for name in ("mean", "scale"):
            if getattr(self, name) is not None:
                self._set(name, statistic(name, getattr(self, name), self.size, "`size`"))

    shape = property(lambda self: (*self.mask_shape, self.size), doc="(F,) or (T, F).")
    raw_shape = property(
        lambda self: (self.size,) if self.steps is None else (None, self.size),
        doc="(F,) or (None, F).",
    )
    dtype = property(lambda self: "float32", doc="Standardised numbers.")
    mask_shape = property(
        lambda self: () if self.steps is None else (self.steps,), doc="() or (T,)."
    )
    adapted = property(
        lambda self: not self.normalize or (self.mean is not None and self.scale is not None),
        doc="Has its mean and scale.",
    )
