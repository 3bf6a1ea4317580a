"""Measurements over time, in channels."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from mmkeras.core.modalities.statistics import statistic
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Series(Modality):
    """Measurements at even steps: float32 (T, C), standardised per channel.

    A raw item is (S, C), a row per step. A row with a NaN is a step that is not there: a gap, or
    the padding of a shorter item. Longer items are cut after T steps, shorter ones are padded and
    masked. With two rates that differ, the item is resampled first: step t is read at the time
    t / rate_hz, on the straight line between its two neighbours (which does not filter: a signal
    with content above rate_hz / 2 is to be filtered before), and is there if both of them are.

    An item with a number beyond 1e9 as the model sees it, standardised or not, is unreadable: its
    products overflow.

    Args:
        steps: T.
        channels: C.
        rate_hz: steps per second that the model sees.
        source_rate_hz: steps per second of raw items; `rate_hz` when None.
        normalize: False leaves the numbers as they are.
        mean, scale: per channel; the value becomes (raw - mean) / scale. Learnt from the training
            rows when None (a constant channel gets scale 1).
        augment: training only, e.g. `{"jitter": {"sigma": 0.05}, "scaling": {}, "time_warp": {}}`;
            see `mmkeras.data.augment_series`.
    """

    kind: ClassVar[str] = "series"
    augmentations: ClassVar[tuple[str, ...]] = ("jitter", "scaling", "rotation", "time_warp")
    raw_dtype: ClassVar[str] = "float32"

    steps: int = 128
    channels: int = 1
    rate_hz: float | None = None
    source_rate_hz: float | None = None
    normalize: bool = True
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    augment: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("steps")
        self._whole("channels")
        for name in ("rate_hz", "source_rate_hz"):
            if getattr(self, name) is not None:
                self._real(name, 1e-9)
        if self.source_rate_hz is not None and self.rate_hz is None:
            raise ValueError(
                "`source_rate_hz` says what to resample from, `rate_hz` what to. Received: "
                f"source_rate_hz={self.source_rate_hz}, rate_hz=None. Give both."
            )
        for name in ("mean", "scale"):
            if getattr(self, name) is not None:
                self._set(name, statistic(name, getattr(self, name), self.channels, "`channels`"))
        self._check_augment()

    @property
    def ratio(self) -> float:
        """Raw steps per step of the model."""
        return 1.0 if self.source_rate_hz is None else self.source_rate_hz / self.rate_hz

    @property
    def source_steps(self) -> int:
        """Raw steps that T steps are read from; what comes later is cut."""
        return math.ceil(round((self.steps - 1) * self.ratio, 6)) + 1

    shape = property(lambda self: (self.steps, self.channels), doc="(T, C).")
    raw_shape = property(lambda self: (None, self.channels), doc="(None, C).")
    dtype = property(lambda self: "float32", doc="Standardised measurements.")
    mask_shape = property(lambda self: (self.steps,), doc="(T,): True at real steps.")
    adapted = property(
        lambda self: not self.normalize or (self.mean is not None and self.scale is not None),
        doc="Has its mean and scale.",
    )
