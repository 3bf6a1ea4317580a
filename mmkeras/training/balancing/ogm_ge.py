"""OGM-GE: the gradient of the modality that leads is made smaller, and noise added."""

from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training.balancing.remedy import Remedy


@register
class OgmGe(Remedy):
    """g_m <- k_m g_m + noise, of every weight of encoder m (Peng et al. 2022, arXiv 2203.15332).

        k_m   = 1 - tanh(alpha rho_m) where rho_m > 1, else 1                       (their eq. 10)
        rho_m = mean score of m / mean over the other modalities of their mean scores
        noise ~ N(0, std(g_m)^2), std over the entries of the weight's gradient, before k_m

    The score of a sample is exp(-loss) of m's own heads: of a Classifier, as in the paper, the
    probability that they give to the right class; of several heads the mean. It is averaged, with
    the samples' weights, over those of the global batch that have m; k_m = 1 where none has it.

    Deviations: the paper has two modalities, whose sums are over the same samples; for two that
    are never absent rho is the same. The paper splits the logits of a linear head on
    concatenated features; here, for any fusion, heads of m's own are learned beside the model, on
    tokens through which no gradient goes back. The authors' code changes the weights of
    convolutions alone, here all of the encoder; and it divides by n - 1 in the standard deviation,
    here by n.

    The sums are over the global batch and the noise is drawn from `seed`, the step and the weight,
    so that replicas, micro-batches and interrupted runs get the same numbers as one device. The
    gradient is changed once it is summed over the replicas, before `clip_norm`.

    When to use it: with SGD, as in the paper. Adam divides a gradient by its own size and so takes
    back most of a k_m that stays the same for long.

    Args:
        alpha: 0 or more; 0 leaves the gradients at their size.
        noise: whether to add it (GE).
        steps: optimizer steps after which the gradients are left alone; None for never.
        seed: of the noise.
    """

    logged = "coefficient"

    def __init__(
        self, alpha: float = 0.3, noise: bool = True, *, steps: int | None = None, seed: int = 0
    ) -> None:
        """Stores the arguments."""
        self.alpha = checks.real("alpha", alpha)
        self.noise = bool(noise)
        self.steps = steps if steps is None else checks.whole("steps", steps)
        self.seed = checks.whole("seed", seed, 0)

    def step_values(self, scores: Any, counts: Any) -> Any:
        """Returns the coefficients."""
        return coefficients(scores, counts, self.alpha)

    def modulated(self, gradient: Any, coefficient: Any, seed: Any) -> Any:
        """Returns k g + noise."""
        changed = gradient * tf.cast(coefficient, gradient.dtype)
        if self.noise:
            spread = tf.math.reduce_std(gradient)
            seed = seed + tf.constant([self.seed * 1_000_003, 0], tf.int64)
            changed += spread * tf.random.stateless_normal(
                tf.shape(gradient), seed, dtype=gradient.dtype
            )
        if self.steps is not None:
            changed = tf.where(seed[1] < self.steps, changed, gradient)
        return changed

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"alpha": self.alpha, "noise": self.noise, "steps": self.steps, "seed": self.seed}


def coefficients(scores: Any, counts: Any, alpha: float) -> Any:
    """Returns (M,) k_m, from the sums (M,) of the scores and the numbers (M,) of those present."""
    there = tf.cast(counts > 0, scores.dtype)
    means = tf.math.divide_no_nan(scores, counts)
    others = tf.constant(1.0 - np.eye(scores.shape[0]), scores.dtype)
    rest = tf.math.divide_no_nan(tf.linalg.matvec(others, means), tf.linalg.matvec(others, there))
    ratio = tf.math.divide_no_nan(means, rest)
    return tf.where(ratio > 1.0, 1.0 - tf.tanh(alpha * ratio), tf.ones_like(ratio))
