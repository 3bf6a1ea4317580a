"""Numbers."""

from typing import Any

import keras

from mmkeras.core import checks, register
from mmkeras.heads.base import Head


@register
class Regressor(Head):
    """(B, `units`) float32 without activation.

    Loss: mean squared error. Metric: mean absolute error. Truth: float (B, `units`).

    Args:
        units: how many numbers.
    """

    def __init__(self, units: int = 1, **kwargs: Any) -> None:
        """Stores the number of units."""
        super().__init__(**kwargs)
        self.units = checks.whole("units", units)

    def default_loss(self) -> keras.losses.Loss:
        """Mean squared error."""
        return keras.losses.MeanSquaredError()

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Mean absolute error."""
        return [keras.metrics.MeanAbsoluteError(name="mae")]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "units": self.units}
