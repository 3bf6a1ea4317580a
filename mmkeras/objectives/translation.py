"""Translation from one modality into another and back, as an objective."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import masked_mean
from mmkeras.objectives.base import Objective
from mmkeras.objectives.joint_embedding import share_of
from mmkeras.objectives.shares import mean

ABSENT = -1.0


@register
class Translation(Objective):
    """Lets the encoder of one modality say what that of another says, and the way back.

    With s and t the means of the real tokens of source and target:

        l_i = mean_d (F(s_i) - t_i)^2 + cycle mean_d (B(F(s_i)) - s_i)^2

    over the samples that have both; F and B have one hidden layer (ReLU). In the manner of MCTN
    (Pham et al. 2019, arXiv 1812.07809), whose cycle makes the joint representation robust to a
    target that is absent at test time. Deviations: vectors are translated, and not sequences; what
    is to be reached is a constant, so that the encoders cannot make it easy by saying nothing.

        heads = {"answer": ..., "translate": mk.objectives.Translation("text", "audio")}

    Args:
        source, target: names of modalities.
        cycle: weight of the way back.
        hidden_dim: width of the hidden layers.

    Returns:
        (B, 2) float32: the two errors of a sample; -1 where it lacks one of the modalities.
    """

    def __init__(
        self, source: str, target: str, *, cycle: float = 1.0, hidden_dim: int = 64, **kwargs: Any
    ) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        kwargs.pop("modalities", None)
        super().__init__((source, target), **kwargs)
        self.source, self.target = source, target
        self.cycle = checks.real("cycle", cycle)
        self.hidden_dim = checks.whole("hidden_dim", hidden_dim)

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds both ways."""
        for m in self.modalities:
            if m not in input_shape:
                raise ValueError(
                    f"A translation is between modalities of the model. Received: {m!r}, the "
                    f"model has {sorted(input_shape)}."
                )
        near, far = (input_shape[m]["tokens"][-1] for m in self.modalities)
        self.forth = self._way("forth", near, far)
        self.back = self._way("back", far, near)

    def _way(self, name: str, width: int, units: int) -> list:
        layers = []
        for part, size in (("hidden", self.hidden_dim), ("out", units)):
            activation = "relu" if part == "hidden" else None
            layer = keras.layers.Dense(size, activation, name=f"{name}_{part}", dtype="float32")
            layer.build((None, width))
            layers.append(layer)
            width = size
        return layers

    def call(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """Returns the errors."""
        pooled, there = [], True
        for m in self.modalities:
            mask = ops.cast(encoded[m]["mask"], "bool")
            pooled.append(masked_mean(ops.cast(encoded[m]["tokens"], "float32"), mask))
            there = ops.any(mask, axis=1) & there
        source, target = pooled
        said = source
        errors = []
        for way, goal in ((self.forth, target), (self.back, source)):
            for layer in way:
                said = layer(said)
            errors.append(ops.mean(ops.square(said - ops.stop_gradient(goal)), axis=-1))
        return ops.where(there[:, None], ops.stack(errors, axis=1), ABSENT)

    def batch_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
    ) -> Any:
        """Returns the mean over the samples that have both; see `Objective`."""
        there = outputs[:, 0] != ABSENT
        each = outputs[:, 0] + self.cycle * outputs[:, 1]
        return mean(each, there, weights, None) * share_of(rows, outputs)

    def compute_output_spec(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """(B, 2) float32."""
        return keras.KerasTensor((encoded[self.source]["tokens"].shape[0], 2), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("source", "target", "cycle", "hidden_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
