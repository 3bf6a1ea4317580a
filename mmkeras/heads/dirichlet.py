"""One class out of several, with the evidence for it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.heads.classifier import Classifier, is_soft
from mmkeras.layers.special import digamma, log_gamma


@register
class Dirichlet(Classifier):
    """log alpha: (B, K) float32, of a Dirichlet distribution of the K class probabilities.

    alpha = 1 + softplus(W x + b), 1 + the evidence for each class (Sensoy, Kaplan and Kandemir
    2018, arXiv 1806.01768, with the softplus of TMC, Han et al. 2021, arXiv 2102.02051). The
    expected probabilities are alpha / S, S = sum alpha: the softmax of the output, as of any
    `Classifier`, so that metrics, export and logs read it alike. K / S in (0, 1] is the
    uncertainty, 1 where there is no evidence.

    Loss: `EvidentialLoss`. Metric: accuracy. Truth: as of a `Classifier`.

    Args:
        classes: the names by index, or their number.
        kl_weight: weight of the loss' KL term, 0 or more.
    """

    def __init__(self, classes: Sequence[str] | int, *, kl_weight: float = 0.1, **kwargs) -> None:
        """Stores the arguments."""
        super().__init__(classes, **kwargs)
        self.kl_weight = checks.real("kl_weight", kl_weight)

    def call(self, fused: dict, training: bool = False) -> Any:
        """Returns log alpha."""
        return ops.log1p(ops.softplus(super().call(fused, training=training)))

    def default_loss(self) -> keras.losses.Loss:
        """The evidential loss."""
        return EvidentialLoss(self.kl_weight)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "kl_weight": self.kl_weight}


@register
class EvidentialLoss(keras.losses.Loss):
    """sum_k y_k (psi(S) - psi(alpha_k)) + kl_weight KL(Dir(a) || Dir(1)), a = y + (1 - y) alpha.

    The expected cross-entropy under Dir(alpha), and what takes back evidence for the wrong
    classes (Sensoy et al. 2018, Han et al. 2021). psi is the digamma function.

    Deviation: there the KL term is annealed, its weight growing to 1 over the first epochs. Here
    it is constant, so that losses of different epochs can be compared (early stopping, the best
    checkpoint) and an interrupted run needs no further state to go on as it was.

    Args:
        kl_weight: as said.

    Call arguments:
        y_true: int (B,), or soft labels (B, K) that add up to 1.
        y_pred: log alpha (B, K).
    """

    def __init__(self, kl_weight: float = 0.1, **kwargs: Any) -> None:
        """Stores the weight."""
        super().__init__(**kwargs)
        self.kl_weight = checks.real("kl_weight", kl_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each sample."""
        count = y_pred.shape[-1]
        if not is_soft(y_true, y_pred):
            y_true = ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), count)
        y = ops.cast(y_true, y_pred.dtype)
        alpha = ops.exp(y_pred)
        fit = digamma(ops.sum(alpha, axis=-1)) - ops.sum(y * digamma(alpha), axis=-1)
        a = y + (1.0 - y) * alpha
        total = ops.sum(a, axis=-1, keepdims=True)
        norm = log_gamma(total[:, 0]) - ops.sum(log_gamma(a), axis=-1)
        norm = norm - log_gamma(ops.cast(count, a.dtype))
        gap = ops.sum((a - 1.0) * (digamma(a) - digamma(total)), axis=-1)
        return fit + self.kl_weight * (norm + gap)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "kl_weight": self.kl_weight}


def dempster(outputs: Any, mask: Any) -> Any:
    """Combines opinions by Dempster's reduced rule, in the form that `TrustedFusion` derives.

    Args:
        outputs: log alpha of M opinions, (B, M, K).
        mask: bool (B, M); an opinion that is not there has no evidence.

    Returns:
        log alpha of the combined one, (B, K): alpha = 1 + K (prod_m (1 + evidence_m / K) - 1).
    """
    count = outputs.shape[-1]
    grown = ops.log1p(ops.expm1(outputs) / count)
    grown = ops.sum(ops.where(mask[:, :, None], grown, ops.zeros_like(grown)), axis=1)
    return grown + ops.log(count - (count - 1.0) * ops.exp(-grown))
