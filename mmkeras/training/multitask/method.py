"""The base of the ways to weigh tasks, which keeps the weights that `compile` was given."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks, register

SHARED = ("last", "all")


@register
class TaskWeights:
    """ "fixed": the weights are those of `loss_weights`; only measures.

    A subclass says what they are instead. K tasks, in the order of the model's outputs.

    Args:
        shared: which weights the gradients of the tasks are compared on: "last", those of the
            layer that the heads read (of all where it has none), which costs little; or "all" that
            no single head owns, which costs a backward pass per task.

    Attributes:
        apart: whether the gradients of the shared weights are combined task by task.
    """

    apart = False

    def __init__(self, shared: str = "last") -> None:
        """Stores the argument."""
        self.shared = checks.one_of("shared", shared, SHARED)

    def build(
        self, layer: keras.layers.Layer, tasks: tuple[str, ...], given: list[float], heads: list
    ) -> None:
        """Makes state variables as weights of a layer.

        Args:
            layer: that is attached to the model.
            tasks: names.
            given: of `loss_weights`.
            heads: the layers of the outputs.
        """
        self.given = tf.constant(given, tf.float32)

    def weights(self) -> Any:
        """Returns (K,) by what the losses are multiplied."""
        return self.given

    def objective(self, losses: Any, there: Any) -> Any:
        """Returns what is minimised.

        Args:
            losses: (K,) means over a replica's rows.
            there: (K,) means of the sample weights over these rows; over the global batch it is
                0 for a task that no row has a label for, and 1 where the given weights are.
        """
        return tf.reduce_sum(self.weights() * losses)

    def coefficients(self, gram: Any, seed: Any) -> Any:
        """Returns (K,) by what the tasks' weighted gradients are multiplied, where `apart`.

        Args:
            gram: (K, K) inner products of those gradients, of the global batch.
            seed: int64 (2,), of the step, the same on all replicas.
        """
        raise NotImplementedError

    def following(self, losses: Any, norms: Any) -> Any:
        """Returns (N,) what `keep` gets after the step, or None.

        Args:
            losses: (K,) of the global batch; 0 for a task that no row has a label for.
            norms: (K,) of the tasks' unweighted gradients.
        """
        return None

    def keep(self, values: Any) -> None:
        """Assigns what `following` returned, once the step counts."""

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns what must happen at epochs' ends in a `fit` with these arguments."""
        return []

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"shared": self.shared}

    @classmethod
    def from_config(cls, config: dict) -> "TaskWeights":
        """Returns the way of a config."""
        return cls(**config)


def state(layer: keras.layers.Layer, name: str, values: Any, trainable: bool = False) -> Any:
    """Returns a new float32 weight of a layer that begins with these values."""
    start = tf.constant(values, tf.float32)
    return layer.add_weight(
        name=name,
        shape=tuple(start.shape),
        initializer=lambda shape, dtype: tf.cast(start, dtype),
        dtype="float32",
        trainable=trainable,
    )
