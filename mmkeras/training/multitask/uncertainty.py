"""Uncertainty weighting: every task's weight is the inverse of a variance that is learnt."""

from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import register
from mmkeras.heads import Regressor
from mmkeras.training.multitask.method import TaskWeights, state


@register
class Uncertainty(TaskWeights):
    """sum_k given_k (c_k exp(-s_k) L_k + s_k / 2), s_k = log sigma_k^2 learnt, 0 at first.

    Kendall, Gal and Cipolla 2018 (arXiv 1705.07115), equations 5 to 10: c is 1/2 for a
    `Regressor`, whose loss is a squared error, and 1 otherwise.

    The s_k are trained by the model's optimizer, at its rate. (Weight decay leaves them alone with
    `mk.training.optimizer`; Keras' own "adamw" decays everything, towards weights of c.)

    A task without a label in a batch leaves its s_k without gradient.

    Args:
        shared: see `TaskWeights`.
    """

    def build(
        self, layer: keras.layers.Layer, tasks: tuple[str, ...], given: list[float], heads: list
    ) -> None:
        """Makes the logarithms of the variances."""
        super().build(layer, tasks, given, heads)
        halves = [0.5 if isinstance(head, Regressor) else 1.0 for head in heads]
        self.factors = tf.constant(halves, tf.float32)
        self.log_variance = state(layer, "log_variance", [0.0] * len(tasks), trainable=True)

    def weights(self) -> Any:
        """Returns given c exp(-s)."""
        return self.given * self.factors * tf.exp(-tf.convert_to_tensor(self.log_variance))

    def objective(self, losses: Any, there: Any) -> Any:
        """Returns the negative logarithm of the likelihood, by sample weights."""
        half = self.given * tf.convert_to_tensor(self.log_variance) / 2.0
        return tf.reduce_sum(self.weights() * losses + half * there)
