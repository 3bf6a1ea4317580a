"""The objective of the statistics of a batch, for any number of modalities."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import masked_mean, zero_masked
from mmkeras.objectives.base import Objective
from mmkeras.objectives.pairs import mean_of_pairs
from mmkeras.objectives.redundancy import barlow_twins, cca, vicreg

LOSSES = {"barlow_twins": barlow_twins, "cca": cca, "vicreg": vicreg}


@register
class JointEmbedding(Objective):
    """Embeds every modality so that the columns of a batch agree and say different things.

    e_m = P_m(mean(x_m)); the loss is the mean over the pairs of modalities of
    `mk.objectives.vicreg`, `barlow_twins` or `cca`, each over the samples that have both. The
    statistics are those of the global batch, on any number of replicas:

        heads = {"agree": mk.objectives.JointEmbedding(32, "vicreg", hidden_dim=128)}

    Sample weights of the output say how often a row counts.

    Args:
        dim: width of the embeddings.
        loss: "vicreg", "barlow_twins" or "cca" (deep CCA, for which a linear P is the last layer).
        hidden_dim: width of the hidden layer (ReLU) of P; None for a linear one. The papers of the
            first two have wide projectors, which are left out afterwards.
        options: further arguments of the loss, such as `{"covariance": 4.0}`.
        modalities: see `Objective`; at least two.

    Returns:
        (B, M, dim) float32; zero where a modality is absent.
    """

    def __init__(
        self,
        dim: int = 64,
        loss: str = "vicreg",
        *,
        hidden_dim: int | None = None,
        options: Mapping[str, float] | None = None,
        modalities: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        super().__init__(modalities, **kwargs)
        self.dim = checks.whole("dim", dim)
        self.loss = checks.one_of("loss", loss, tuple(LOSSES))
        self.hidden_dim = hidden_dim and checks.whole("hidden_dim", hidden_dim)
        known = set(LOSSES[loss].__kwdefaults__) - {"mask", "weights"}
        self.options = dict(options or {})
        if not set(self.options) <= known:
            raise ValueError(
                f"{loss!r} has the options {sorted(known)}. Received: {sorted(self.options)}."
            )
        if self.options.get("components") is not None:
            checks.whole("components", self.options["components"])
        if "regularization" in self.options:
            checks.real("regularization", self.options["regularization"], 1e-12)

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds a projection per modality."""
        if self.modalities is None or len(self.modalities) < 2:
            raise ValueError(
                "A joint embedding needs two modalities or more (`modalities`, which `assemble` "
                f"fills in). Received: {self.modalities}."
            )
        self.projections = {}
        for m in self.modalities:
            width, layers = input_shape[m]["tokens"][-1], []
            for units, name in ((self.hidden_dim, "hidden"), (self.dim, "projection")):
                if units is None:
                    continue
                activation = "relu" if name == "hidden" else None
                layer = keras.layers.Dense(units, activation, name=f"{m}_{name}", dtype="float32")
                layer.build((None, width))
                layers.append(layer)
                width = units
            self.projections[m] = layers

    def call(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """Returns the embeddings."""
        rows = []
        for m in self.modalities:
            mask = ops.cast(encoded[m]["mask"], "bool")
            value = masked_mean(ops.cast(encoded[m]["tokens"], "float32"), mask)
            for layer in self.projections[m]:
                value = layer(value)
            rows.append(zero_masked(value, ops.any(mask, axis=1)))
        return ops.stack(rows, axis=1)

    def batch_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
    ) -> Any:
        """Returns the loss of a whole batch, or the rows' share of it by their number."""
        there = ops.any(outputs != 0, axis=-1)  # (N, M)
        given, loss = {"weights": weights, **self.options}, LOSSES[self.loss]
        mean = mean_of_pairs(
            there, lambda i, j, both: loss(outputs[:, i], outputs[:, j], mask=both, **given)
        )
        return mean * share_of(rows, outputs)

    def compute_output_spec(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """(B, M, dim) float32."""
        batch = encoded[self.modalities[0]]["tokens"].shape[0]
        return keras.KerasTensor((batch, len(self.modalities), self.dim), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("dim", "loss", "hidden_dim", "options")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def share_of(rows: tuple[Any, int] | None, outputs: Any) -> Any:
    """Returns by what the loss of a batch is multiplied, for the share of some of its rows."""
    if rows is None:
        return 1.0
    part, whole = (ops.convert_to_tensor(n, "float32") for n in (rows[1], ops.shape(outputs)[0]))
    return part / whole
