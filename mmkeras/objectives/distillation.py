"""Distillation: what a teacher says of a sample is a target, beside or in place of its label.

The targets come with the data, under the name of the objective: by `mk.training.teach(dataset,
teacher, ...)`, or from a column of one's own.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import masked_mean, zero_masked
from mmkeras.objectives.base import Objective
from mmkeras.objectives.joint_embedding import share_of
from mmkeras.objectives.shares import mean


def soft_targets(student: Any, teacher: Any, temperature: float = 1.0) -> Any:
    """T^2 KL(softmax(teacher / T) | softmax(student / T)) of each row, (N,).

    Hinton, Vinyals, Dean 2015 (arXiv 1503.02531), whose cross-entropy differs by the entropy of
    the targets, a constant; T^2 keeps the gradient's size.

    Args:
        student, teacher: logits (N, C).
        temperature: T.
    """
    log_p = ops.log_softmax(ops.cast(teacher, "float32") / temperature, axis=-1)
    log_q = ops.log_softmax(ops.cast(student, "float32") / temperature, axis=-1)
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


class _Taught(Objective):
    """The mean over the rows of a distance to targets that come with the data."""

    weight = 1.0

    def distances(self, outputs: Any, y: Any) -> tuple[Any, Any]:
        """Returns the distance of each row, (N,), and which rows there are."""
        raise NotImplementedError

    def batch_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
    ) -> Any:
        """Returns the mean over the rows that are there; see `Objective`."""
        if y is None or len(y.shape) != 2 or y.shape[-1] != outputs.shape[-1]:
            raise ValueError(
                f"{self.name!r} learns from a teacher, (B, {outputs.shape[-1]}) in the truth under "
                f"this name. Received: {None if y is None else tuple(y.shape)}. Let "
                "mk.training.teach(dataset, teacher, ...) add it."
            )
        each, there = self.distances(outputs, y)
        return self.weight * mean(each, there, weights, None) * share_of(rows, outputs)


@register
class SoftTargets(_Taught):
    """Lets a classifier agree with a teacher's logits; see `soft_targets`.

        heads = {
            "answer": mk.heads.Classifier(classes),
            "taught": mk.objectives.SoftTargets("answer", temperature=4.0),
        }
        model.fit(mk.training.teach(data.train(64), teacher, {"taught": "answer"}))

    Args:
        of: name of the head; no `Regressor` and no `MultiLabel`, which have no softmax.
        temperature: above 0; the larger, the more the unlikely classes count.
        weight: of the loss.

    Returns:
        What the head says.
    """

    def __init__(
        self, of: str, temperature: float = 2.0, *, weight: float = 1.0, **kwargs: Any
    ) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        super().__init__(**kwargs)
        self.of = checks.identifier("of", of)
        self.temperature = checks.real("temperature", temperature, 1e-3)
        self.weight = checks.real("weight", weight)

    def call(self, logits: Any) -> Any:
        """Returns the logits."""
        return ops.cast(logits, "float32")

    def distances(self, outputs: Any, y: Any) -> tuple[Any, Any]:
        """Of every row."""
        return soft_targets(outputs, y, self.temperature), ops.ones(ops.shape(y)[:1], "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("of", "temperature", "weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class FeatureTargets(_Taught):
    """Lets an encoder say what a teacher's features say: mean_d (W mean(x_i) + c - y_i)^2.

    FitNets (Romero et al. 2015, arXiv 1412.6550), equation 3, with a linear regressor on the mean
    of the modality's real tokens; over the samples that have it.

    Args:
        modality: whose encoder.
        dim: width of the teacher's features.
        weight: of the loss.

    Returns:
        (B, dim) float32; zero where the modality is absent.
    """

    def __init__(self, modality: str, dim: int, *, weight: float = 1.0, **kwargs: Any) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        kwargs.pop("modalities", None)
        super().__init__((modality,), **kwargs)
        self.modality, self.dim = modality, checks.whole("dim", dim)
        self.weight = checks.real("weight", weight)

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds the regressor."""
        if self.modality not in input_shape:
            raise ValueError(
                f"The features are of a modality of the model. Received: {self.modality!r}, the "
                f"model has {sorted(input_shape)}."
            )
        self.dense = keras.layers.Dense(self.dim, name="regressor", dtype="float32")
        self.dense.build((None, input_shape[self.modality]["tokens"][-1]))

    def call(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """Returns the regression."""
        mask = ops.cast(encoded[self.modality]["mask"], "bool")
        pooled = masked_mean(ops.cast(encoded[self.modality]["tokens"], "float32"), mask)
        return zero_masked(self.dense(pooled), ops.any(mask, axis=1))

    def distances(self, outputs: Any, y: Any) -> tuple[Any, Any]:
        """Of the rows that have the modality."""
        each = ops.mean(ops.square(outputs - ops.cast(y, "float32")), axis=-1)
        return each, ops.any(outputs != 0, axis=-1)

    def compute_output_spec(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """(B, dim) float32."""
        batch = encoded[self.modality]["tokens"].shape[0]
        return keras.KerasTensor((batch, self.dim), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("modality", "dim", "weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
