"""Gradient-Blending: every loss weighs as much as it generalises for what it overfits."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training.balancing.auxiliary import per_voice
from mmkeras.training.balancing.remedy import Remedy

JOINT = "joint"
TINY = 1e-8
"""Least squared overfitting, so that a loss which has not overfitted has a finite weight."""


def blending_weights(
    before: Mapping[str, tuple[float, float]],
    after: Mapping[str, tuple[float, float]],
    *,
    floor: float = 0.0,
) -> dict[str, float]:
    """Returns w_k = (1 / Z) G_k / O_k^2, the weights of Gradient-Blending, which sum to 1.

    Wang, Tran and Feiszli 2020 (arXiv 1905.12681), Algorithm 1. With training loss T and
    validation loss V at epochs N (before) and N + n (after):

        G_k = V_before - V_after                              what was generalised
        O_k = (V_after - T_after) - (V_before - T_before)     what was overfitted

    Deviations: a loss that has not generalised (G_k <= 0) has weight 0, and if none has, all
    weigh the same; O_k^2 is at least 1e-8; the weights are floor + (1 - K floor) w_k.

    Args:
        before: name -> (training loss, validation loss); the modalities and "joint".
        after: the same, later.
        floor: least weight, at most 1 / K.

    >>> weights = blending_weights(
    ...     {"image": (1.0, 1.0), "joint": (1.0, 1.0)}, {"image": (0.6, 0.8), "joint": (0.2, 0.6)}
    ... )
    >>> {name: round(weight, 3) for name, weight in weights.items()}
    {'image': 0.667, 'joint': 0.333}
    """
    then, now = (np.array([dict(part)[k] for k in before], float) for part in (before, after))
    gained = np.maximum(then[:, 1] - now[:, 1], 0.0)
    overfitted = (now[:, 1] - now[:, 0]) - (then[:, 1] - then[:, 0])
    raw = gained / np.maximum(overfitted**2, TINY)
    share = raw / raw.sum() if raw.sum() > 0 else np.full(len(raw), 1.0 / len(raw))
    weights = floor + (1.0 - len(raw) * floor) * share
    return dict(zip(before, weights.tolist(), strict=True))


@register
class Blending(Remedy):
    """w_joint loss + sum_m w_m L_m, by `blending_weights`; logs joint_loss, joint_score, weights.

    L_m as in `Auxiliary`. Offline: `weights` are given and stay; measure them with runs of single
    modalities and of all, whose `History` has the losses for `blending_weights`. Online: all
    weigh the same at first, and every `every` epochs the weights are measured on this very run,
    between the ends of two super-epochs (so that the first change is after 2 * `every` epochs).

    Deviations of the online way: the paper trains a copy of each unimodal network and of the
    joint one for a super-epoch to measure, which doubles the cost; here it is the heads of the
    run itself. The training losses are those that Keras logs, means over an epoch.

    The weights are variables of the model, and so part of every checkpoint. The loss of the
    joint head, logged as `joint_loss`, is its default loss.

    When to use it: with validation data that are large enough to tell overfitting from noise.

    Args:
        every: epochs of a super-epoch.
        weights: of every modality and "joint", to keep; None measures them online.
        floor: least weight online, so that no part of the model is left without gradient; the
            paper has 0.
    """

    detached = False
    joint = True
    logged = "weight"

    def __init__(
        self,
        every: int = 5,
        *,
        weights: Mapping[str, float] | None = None,
        floor: float = 0.05,
    ) -> None:
        """Stores the arguments."""
        self.every = checks.whole("every", every)
        self.weights = weights and {
            name: checks.real(f"weights[{name!r}]", value) for name, value in weights.items()
        }
        self.floor = checks.real("floor", floor, 0.0, 0.5)

    def build(self, layer: keras.layers.Layer, voices: tuple[str, ...]) -> None:
        """Makes the weights and the losses of the last boundary, as variables."""
        count = len(voices)
        if voices.count(JOINT) > 1:
            raise ValueError(
                "Blending logs the model's own output as 'joint', which no modality may be called. "
                f"Received: {voices[:-1]}. Rename it."
            )
        if self.floor * count > 1.0:
            raise ValueError(
                f"`floor` must be at most 1 / {count}, one share for each of {voices}. Received: "
                f"floor={self.floor}."
            )
        if self.weights is not None and set(self.weights) != set(voices):
            per_voice(self.weights, voices, "weights")
            raise ValueError(
                f"`weights` must name every modality and 'joint': {list(voices)}. Received: "
                f"{self.weights}. 0 leaves a loss out."
            )
        self.voices = voices
        start = per_voice(self.weights or 1.0 / count, voices, "weights")
        self.blend = layer.add_weight(
            name="blend",
            shape=(count,),
            initializer=lambda shape, dtype: tf.constant(start, dtype),
            trainable=False,
        )
        self.last = layer.add_weight(  # (training loss, validation loss) of each
            name="last",
            shape=(count, 2),
            initializer=keras.initializers.Constant(float("nan")),
            trainable=False,
        )

    def objective(self, loss: Any, own: Any) -> Any:
        """Blends the losses; "joint" is the last voice."""
        weights = tf.cast(self.blend.value, own.dtype)
        return weights[-1] * loss + tf.reduce_sum(weights[:-1] * own)

    def step_values(self, scores: Any, counts: Any) -> Any:
        """Returns the weights, those of the modalities and of "joint"."""
        return tf.convert_to_tensor(self.blend.value)

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns what measures the weights at the ends of super-epochs."""
        if self.weights is not None:
            return []
        held = given.get("validation_data") is not None or given.get("validation_split")
        frequency = given.get("validation_freq", 1)
        if not held or not isinstance(frequency, int) or self.every % frequency:
            raise ValueError(
                "Gradient blending measures its weights on validation data at the end of every "
                f"super-epoch. Received: fit without them at some epoch of {self.every}, "
                f"{2 * self.every}, ... Pass validation_data=..., or fixed weights: "
                "balance('blending', weights={...})."
            )
        return [_Measure(self)]

    def measure(self, logs: Mapping[str, float]) -> None:
        """Takes the losses of an epoch's end, and changes the weights if there are older ones."""
        now = [(logs[f"{v}_loss"], logs[f"val_{v}_loss"]) for v in self.voices]
        then = keras.ops.convert_to_numpy(self.last)
        if np.isfinite(then).all() and np.isfinite(now).all():
            before, after = (dict(zip(self.voices, part, strict=True)) for part in (then, now))
            weights = blending_weights(before, after, floor=self.floor)
            self.blend.assign(list(weights.values()))
        self.last.assign(now)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"every": self.every, "weights": self.weights, "floor": self.floor}


class _Measure(keras.callbacks.Callback):
    """Measures the weights at the ends of super-epochs."""

    def __init__(self, remedy: Blending) -> None:
        super().__init__()
        self.remedy = remedy

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Lets the remedy read the logs."""
        if (epoch + 1) % self.remedy.every == 0:
            self.remedy.measure(logs or {})
