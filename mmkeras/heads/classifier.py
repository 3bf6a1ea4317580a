"""One class out of several."""

from collections.abc import Sequence
from typing import Any

import keras

from mmkeras.core import register
from mmkeras.heads.base import Head, class_names


@register
class Classifier(Head):
    """Logits over classes: (B, number of classes) float32, softmax gives the probabilities.

    Loss: sparse categorical cross-entropy from logits. Metric: accuracy. Truth: int (B,).

    Args:
        classes: the names by index, or their number.
    """

    def __init__(self, classes: Sequence[str] | int, **kwargs: Any) -> None:
        """Stores the names."""
        super().__init__(**kwargs)
        self.classes = class_names(classes)
        self.units = len(self.classes)

    def default_loss(self) -> keras.losses.Loss:
        """Sparse categorical cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "classes": list(self.classes)}
