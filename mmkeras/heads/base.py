"""The base of the heads that read the pooled vector."""

from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from typing import Any

import keras

from mmkeras.core import checks


class Head(keras.layers.Layer):
    """Dropout and one dense layer on `fused["pooled"]`, in float32.

    Args:
        dropout: rate on the pooled vector.

    Call arguments:
        fused: what a fusion returns.

    A subclass sets `units`, and may define `default_loss()` and `default_metrics()`, which
    `compile` takes when no loss is given; without them it asks for a loss.
    """

    units: int = 1

    def __init__(self, *, dropout: float = 0.0, **kwargs: Any) -> None:
        """Stores the arguments; a head always works in float32."""
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.dropout = checks.real("dropout", dropout, 0.0, 1.0)

    def build(self, input_shape: Mapping[str, tuple]) -> None:
        """Builds the dense layer."""
        self.drop = keras.layers.Dropout(self.dropout, name="dropout", dtype="float32")
        self.dense = keras.layers.Dense(self.units, name="dense", dtype="float32")
        self.dense.build(input_shape["pooled"])

    def call(self, fused: Mapping[str, Any], training: bool = False) -> Any:
        """Returns (B, units) float32."""
        return self.dense(self.drop(fused["pooled"], training=training))

    def compute_output_spec(self, fused: Mapping[str, Any], training: bool = False) -> Any:
        """(B, units) float32."""
        return keras.KerasTensor((fused["pooled"].shape[0], self.units), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "dropout": self.dropout}


def head_of(model: keras.Model, output: str) -> keras.layers.Layer | None:
    """Returns the head that has the name of an output, or None (a layer of one's own elsewhere).

    Of a `Decision` it is the head that decides.
    """
    found = next((layer for layer in model.layers if layer.name == output), None)
    return getattr(found, "head", found) if isinstance(found, Head) else found


def class_names(classes: Any) -> tuple[str, ...]:
    """Returns the names, or raises: at least two, all different, in an order."""
    names = range(classes) if isinstance(classes, Integral) else classes
    ordered = isinstance(names, Iterable) and not isinstance(names, str | bytes | Set)
    names = tuple(str(name) for name in names) if ordered else ()
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(
            "`classes` must hold at least two different names (or be their number). "
            f"Received: {classes!r}. Pass a list such as ['cat', 'dog']."
        )
    return names
