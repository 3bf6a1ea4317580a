"""The base of the remedies, which measures and changes nothing."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import register


@register
class Remedy:
    """ "probe": heads on each modality that only watch.

    Their gradient ends at the encoders' tokens, so that encoders, fusion and heads train as
    without, to float rounding (unless `clip_norm` is set, since the norm is over all weights).

    A subclass says what the encoders get instead. V voices: the M modalities in the order of their
    names and, where `joint` is true, the model's own output, "joint".

    Attributes:
        detached: whether the gradient of the modalities' heads ends at the tokens.
        joint: whether loss and score of the model's own output are measured, too.
        logged: what `step_values` returns, as `MODALITY_<this>`; None for nothing.
    """

    detached = True
    joint = False
    logged: str | None = None

    def build(self, layer: keras.layers.Layer, voices: tuple[str, ...]) -> None:
        """Makes state variables as weights of a layer, and checks options against the voices."""

    def objective(self, loss: Any, own: Any) -> Any:
        """Returns what is minimised.

        Args:
            loss: of the task.
            own: (M,) the modalities' losses, each a mean over all samples, 0 for absent ones.
        """
        return loss + tf.reduce_sum(own)

    def step_values(self, scores: Any, counts: Any) -> Any:
        """Returns (N,) what is logged of a step, and for OGM-GE the coefficients, or None.

        Args:
            scores: (V,) sums over the global batch of the scores of those who are present.
            counts: (V,) their number (the sum of their weights).
        """
        return None

    def modulated(self, gradient: Any, coefficient: Any, seed: Any) -> Any:
        """Returns the gradient of an encoder's weight, changed.

        Args:
            gradient: summed over the replicas.
            coefficient: of the encoder, from `step_values`.
            seed: int64 (2,), of the weight and the step, the same on all replicas.
        """
        return gradient

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns what must happen at epochs' ends, or raises: the arguments of `fit` must do."""
        return []

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> "Remedy":
        """Returns the remedy of a config."""
        return cls(**config)
