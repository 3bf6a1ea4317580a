"""One class out of several."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.heads.base import Head, class_names


@register
class Classifier(Head):
    """Logits over classes: (B, number of classes) float32, softmax gives the probabilities.

    Loss: categorical cross-entropy from logits. Metric: accuracy. Truth: int (B,), or soft labels,
    float (B, number of classes) that add up to 1, as MixUp and CutMix make them.

    Args:
        classes: the names by index, or their number.
    """

    def __init__(self, classes: Sequence[str] | int, **kwargs: Any) -> None:
        """Stores the names."""
        super().__init__(**kwargs)
        self.classes = class_names(classes)
        self.units = len(self.classes)

    def log_probabilities(self, outputs: Any) -> Any:
        """Of decisions (..., classes): the logarithms of their probabilities, which sum to 1."""
        return ops.log_softmax(outputs, axis=-1)

    def from_log_probabilities(self, log_p: Any) -> Any:
        """The output with these log probabilities (..., classes)."""
        return log_p

    def default_loss(self) -> keras.losses.Loss:
        """Categorical cross-entropy."""
        return ClassLoss()

    def default_metrics(self) -> list[keras.metrics.Metric]:
        """Accuracy; of soft labels the likeliest class counts."""
        return [ClassAccuracy(name="accuracy")]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "classes": list(self.classes)}


def is_soft(truth: Any, predicted: Any) -> bool:
    """Whether the truth is a distribution over the classes, and not class numbers."""
    return len(truth.shape) == len(predicted.shape) and truth.shape[-1] == predicted.shape[-1]


@register
class ClassLoss(keras.losses.Loss):
    """Cross-entropy from logits (B, C) of classes, int (B,), or of soft labels (B, C)."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each sample."""
        if is_soft(y_true, y_pred):
            return keras.losses.categorical_crossentropy(y_true, y_pred, from_logits=True)
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


@register
class ClassAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Sparse categorical accuracy that also takes soft labels, of which the likeliest counts."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Adds a batch."""
        if is_soft(y_true, y_pred):
            y_true = ops.argmax(y_true, axis=-1)
        return super().update_state(y_true, y_pred, sample_weight=sample_weight)
