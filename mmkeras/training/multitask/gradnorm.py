"""GradNorm: weights that let the tasks learn at one pace."""

from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training.multitask.method import TaskWeights, state

FLOOR = 1e-3
"""Least weight before they are scaled: a gradient step may not turn a task around."""


@register
class GradNorm(TaskWeights):
    """Weights w by gradient steps on sum_k |w_k g_k - mean_j(w_j g_j) r_k^alpha|.

    Chen et al. 2018 (arXiv 1711.02257), Algorithm 1: g_k the norm of the gradient of L_k with
    respect to the shared weights, r_k the task's relative inverse training rate, L_k / L_k(0) over
    the mean of these ratios; the target is a constant in the step, after which the weights are
    scaled to sum K. They begin with `loss_weights`, so scaled.

    Of a step count the tasks that a row of the batch has a label for, and L_k(0) is the loss of
    the first such step. Deviations: the step is of plain gradient descent, the paper leaves its
    kind open; a weight stays at least 0.001; where a norm is not finite, nothing changes.

    Args:
        alpha: strength of the pull towards one pace; the paper has 0.12 to 1.5.
        rate: of the gradient steps.
        shared: see `TaskWeights`; the paper has the last shared layer.
    """

    def __init__(self, alpha: float = 1.5, rate: float = 0.025, *, shared: str = "last") -> None:
        """Stores the arguments."""
        super().__init__(shared)
        self.alpha = checks.real("alpha", alpha)
        self.rate = checks.real("rate", rate)

    def build(
        self, layer: keras.layers.Layer, tasks: tuple[str, ...], given: list[float], heads: list
    ) -> None:
        """Makes the weights and the first losses."""
        super().build(layer, tasks, given, heads)
        if not min(given) > 0.0:
            raise ValueError(
                "GradNorm begins with `loss_weights`, which must be above 0. Received: "
                f"{dict(zip(tasks, given, strict=True))}."
            )
        start = [weight * len(given) / sum(given) for weight in given]
        self.learnt = state(layer, "weights", start)
        self.first = state(layer, "first_losses", [0.0] * len(tasks))

    def weights(self) -> Any:
        """Returns the weights."""
        return tf.convert_to_tensor(self.learnt)

    def following(self, losses: Any, norms: Any) -> Any:
        """Returns new weights and first losses, (2 K,)."""
        weights, first = self.weights(), tf.convert_to_tensor(self.first)
        first = tf.where(first > 0.0, first, losses)
        new = stepped(weights, losses, first, norms, self.alpha, self.rate)
        finite = tf.reduce_all(tf.math.is_finite(tf.concat([new, losses], 0)))
        held = tf.concat([weights, self.first], 0)
        return tf.where(finite, tf.concat([new, first], 0), held)

    def keep(self, values: Any) -> None:
        """Assigns the weights and the first losses."""
        for variable, value in zip((self.learnt, self.first), tf.split(values, 2), strict=True):
            variable.assign(value)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"alpha": self.alpha, "rate": self.rate, **super().get_config()}


def stepped(weights: Any, losses: Any, first: Any, norms: Any, alpha: float, rate: float) -> Any:
    """Returns the weights after a step of GradNorm, all (K,); those of losses 0 count for nothing.

    Args:
        weights: before it.
        losses, first: now, and at the first step.
        norms: of the unweighted gradients.
        alpha, rate: see `GradNorm`.
    """
    there = tf.cast(losses > 0.0, losses.dtype)
    count = tf.reduce_sum(there)
    ratio = tf.math.divide_no_nan(losses, first)
    pace = tf.math.divide_no_nan(ratio, tf.math.divide_no_nan(tf.reduce_sum(ratio), count))
    weighted = weights * norms
    mean = tf.math.divide_no_nan(tf.reduce_sum(weighted * there), count)
    gradient = there * tf.sign(weighted - mean * pace**alpha) * norms
    new = tf.maximum(weights - rate * gradient, FLOOR)
    return new * (weights.shape[0] / tf.reduce_sum(new))
