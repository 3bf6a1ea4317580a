"""Any number of classes at once."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.heads.base import Head, class_names


@register
class MultiLabel(Head):
    """One logit per class: (B, number of classes) float32, sigmoid gives the probabilities.

    Loss: binary cross-entropy from logits. Metrics: binary accuracy and area under the ROC
    curve. Truth: multi-hot float (B, number of classes).

    Args:
        classes: the names by index, or their number.
    """

    def __init__(self, classes: Sequence[str] | int, **kwargs: Any) -> None:
        """Stores the names."""
        super().__init__(**kwargs)
        self.classes = class_names(classes)
        self.units = len(self.classes)

    def log_probabilities(self, outputs: Any) -> Any:
        """Of decisions (..., classes): those of yes and no, (..., classes, 2)."""
        return ops.stack([ops.log_sigmoid(outputs), ops.log_sigmoid(-outputs)], axis=-1)

    def from_log_probabilities(self, log_p: Any) -> Any:
        """The output with these log probabilities (..., classes, 2)."""
        return log_p[..., 0] - log_p[..., 1]

    def default_loss(self) -> keras.losses.Loss:
        """Binary cross-entropy."""
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Binary accuracy at probability 0.5, and AUC over all classes together."""
        return [
            keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0),
            keras.metrics.AUC(name="auc", from_logits=True),
        ]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "classes": list(self.classes)}
