"""Measurements over time: arrays or files in, resampled and standardised steps out."""

from typing import Any

import tensorflow as tf

from mmkeras.core import Series
from mmkeras.data.columns import Column
from mmkeras.data.kinds import steps
from mmkeras.data.sources import Rows

adapt = steps.learn


def column(name: str, modality: Series, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns the raw measurements, as long as they are looked at."""
    return steps.column(name, modality, modality.source_steps, rows, source, archive)


class Decoder(tf.Module):
    """Raw (B, S, C), NaN where nothing is -> float32 (B, T, C), bool (B, T); see `Series`."""

    def __init__(self, modality: Series) -> None:
        """Keeps the spec and its statistics."""
        super().__init__()
        self.modality = modality

    def broken(self, raw: Any) -> Any:
        """(B,) whether a step that is looked at holds a number that is not usable."""
        return steps.broken(self.modality, raw, self.modality.source_steps)

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Resamples and standardises a batch."""
        spec = self.modality
        return steps.decode(spec, raw, spec.source_steps, spec.ratio)
