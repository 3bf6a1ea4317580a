"""Auxiliary losses: every encoder must be of use by itself."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.core.identifiers import nearest
from mmkeras.training.balancing.remedy import Remedy


@register
class Auxiliary(Remedy):
    """loss + sum_m weight_m L_m, L_m the loss of modality m's own heads.

    L_m is the mean over all samples of the heads' default losses, weighted as the task's (sample
    weights, `loss_weights`); a sample without the modality adds no loss and no gradient.

    When to use it: the first thing to try; an encoder gets gradient as long as it alone is wrong,
    however right the others are.

    Args:
        weight: of every modality, or modality -> weight (0 where left out).
    """

    detached = False

    def __init__(self, weight: float | Mapping[str, float] = 1.0) -> None:
        """Stores the weight."""
        self.weight = (
            {name: checks.real(f"weight[{name!r}]", value) for name, value in weight.items()}
            if isinstance(weight, Mapping)
            else checks.real("weight", weight)
        )

    def build(self, layer: keras.layers.Layer, voices: tuple[str, ...]) -> None:
        """Brings the weights into the order of the voices."""
        self.weights = per_voice(self.weight, voices, "weight")

    def objective(self, loss: Any, own: Any) -> Any:
        """Adds the weighted losses."""
        return loss + tf.reduce_sum(tf.constant(self.weights, own.dtype) * own)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"weight": self.weight}


def per_voice(weight: Any, voices: tuple[str, ...], argument: str) -> list[float]:
    """Returns a weight for every voice, or raises ValueError for a name that is none."""
    if not isinstance(weight, Mapping):
        return [weight] * len(voices)
    for name in weight:
        if name not in voices:
            raise ValueError(f"Unknown modality {name!r} in `{argument}`. {nearest(name, voices)}")
    return [weight.get(voice, 0.0) for voice in voices]
