"""The contrastive objective of any number of modalities."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import masked_mean, zero_masked
from mmkeras.objectives.base import Objective
from mmkeras.objectives.contrastive import info_nce, siglip, triplet
from mmkeras.objectives.hard import hard_nce

LOSSES = {"info_nce": info_nce, "hard_nce": hard_nce, "siglip": siglip, "triplet": triplet}


@register
class Contrastive(Objective):
    """Embeds every modality in one space in which the modalities of a sample are near each other.

    e_m = W_m mean(x_m) / |W_m mean(x_m)|; the loss is the mean over the pairs of modalities of
    `mk.objectives.info_nce`, `hard_nce`, `siglip` or `triplet`, each over the samples that have
    both; a pair that no sample of the batch has counts for nothing. CLIP is this with two
    modalities, and SigLIP with `loss="siglip"`:

        model = mk.assemble(data.modalities, heads={"match": mk.objectives.Contrastive(dim=64)})

    Where the data has a target of the head's name (`mk.Label()`, int (N,)), samples of one class
    are positives of each other; one without a label (`mk.Label(optional=True)`, or a negative
    number) is alone in its class. `compile(loss_weights={"match": 0.1})` weighs the objective
    against others; `mk.training.optimizer` and recipes do not decay its scale and bias.

    Args:
        dim: width of the common space.
        loss: "info_nce", "hard_nce", "siglip" or "triplet".
        scale: what the inverse temperature begins with; None takes 1 / 0.07 (CLIP), and 10 for
            "siglip", with a bias of -10 (SigLIP). "triplet" has none.
        max_scale: the scale never passes this (CLIP: 100).
        learn_scale: whether the logarithm of the scale is trained; the bias always is.
        margin, negatives: of "triplet".
        hardness: of "hard_nce".
        tile: rows of the similarities that are held at a time; see `mk.objectives.info_nce`.
        modalities: see `Objective`; at least two.

    Returns:
        (B, M, dim) float32: unit vectors, zero where a modality is absent. One that is zero
        otherwise (of a network that gives nothing but zeros) counts as absent, too.
    """

    no_label = -1

    def __init__(
        self,
        dim: int = 64,
        loss: str = "info_nce",
        *,
        scale: float | None = None,
        max_scale: float = 100.0,
        learn_scale: bool = True,
        margin: float = 0.2,
        negatives: str = "hardest",
        hardness: float = 1.0,
        tile: int | None = None,
        modalities: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        super().__init__(modalities, **kwargs)
        self.dim = checks.whole("dim", dim)
        self.loss = checks.one_of("loss", loss, tuple(LOSSES))
        self.max_scale = checks.real("max_scale", max_scale)
        self.scale = (
            checks.real("scale", (10.0 if loss == "siglip" else 1 / 0.07))
            if (scale is None)
            else checks.real("scale", scale)
        )
        if not 0 < self.scale <= self.max_scale:
            raise ValueError(
                "`scale` must be above 0 and at most `max_scale`. Received: "
                f"scale={self.scale:g}, max_scale={self.max_scale:g}."
            )
        self.learn_scale = bool(learn_scale)
        self.margin = checks.real("margin", margin)
        self.negatives = checks.one_of("negatives", negatives, ("hardest", "semi_hard", "all"))
        self.hardness = checks.real("hardness", hardness)
        self.tile = None if tile is None else checks.whole("tile", tile)
        if self.tile is not None and self.loss == "triplet":
            raise ValueError(
                "The loss 'triplet' has no tiles: it keeps all similarities. Received: "
                f"tile={tile}. Leave it out, or take another loss."
            )

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds a projection per modality, the scale and the bias."""
        if self.modalities is None or len(self.modalities) < 2:
            raise ValueError(
                "A contrastive objective needs two modalities or more (`modalities`, which "
                f"`assemble` fills in). Received: {self.modalities}."
            )
        self.projections = {}
        for m in self.modalities:
            layer = keras.layers.Dense(
                self.dim, use_bias=False, name=f"{m}_projection", dtype="float32"
            )
            layer.build((None, input_shape[m]["tokens"][-1]))
            self.projections[m] = layer
        if self.loss != "triplet":
            self.log_scale = self._scalar("log_scale", math.log(self.scale), self.learn_scale)
        if self.loss == "siglip":
            self.bias = self._scalar("bias", -10.0, True)

    def _scalar(self, name: str, value: float, trainable: bool) -> Any:
        constant = keras.initializers.Constant(value)
        return self.add_weight((), constant, "float32", trainable=trainable, name=name)

    def call(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """Returns the embeddings."""
        rows = []
        for m in self.modalities:
            mask = ops.cast(encoded[m]["mask"], "bool")
            pooled = masked_mean(ops.cast(encoded[m]["tokens"], "float32"), mask)
            unit = _unit(self.projections[m](pooled))
            rows.append(zero_masked(unit, ops.any(mask, axis=1)))
        return ops.stack(rows, axis=1)

    def batch_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
    ) -> Any:
        """Returns the loss of a whole batch, or of some rows' share in it; see `Objective`."""
        _check_rows(self.name, y, weights)
        there = ops.any(outputs != 0, axis=-1)  # (N, M)
        if y is not None:
            y = y if keras.backend.standardize_dtype(y.dtype) == "int32" else ops.cast(y, "int64")
            alone = -1 - ops.arange(ops.shape(y)[0], dtype=y.dtype)
            y = ops.where(y < 0, alone, y)
        given = {"groups": y, "weights": weights, "rows": rows}
        if self.loss == "triplet":
            given |= {"margin": self.margin, "negatives": self.negatives}
        else:
            given |= {"scale": self.inverse_temperature(), "tile": self.tile}
        if self.loss == "siglip":
            given["bias"] = self.bias
        if self.loss == "hard_nce":
            given["hardness"] = self.hardness
        loss = LOSSES[self.loss]
        return mean_of_pairs(
            there, lambda i, j, both: loss(outputs[:, i], outputs[:, j], mask=both, **given)
        )

    def inverse_temperature(self) -> Any:
        """The scale as it is used: exp of the weight, at most `max_scale`.

        At the clamp and above it the weight gets the gradient that lowers it, as if there were no
        clamp, and none that would raise it: it comes back when the loss asks for it.
        """
        return ops.exp(_clamped(1.0 * self.log_scale, math.log(self.max_scale)))

    def compute_output_spec(self, encoded: Mapping[str, Mapping[str, Any]]) -> Any:
        """(B, M, dim) float32."""
        batch = encoded[self.modalities[0]]["tokens"].shape[0]
        return keras.KerasTensor((batch, len(self.modalities), self.dim), "float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("dim", "loss", "scale", "max_scale", "learn_scale", "margin", "negatives")
        names = (*names, "hardness", "tile")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def mean_of_pairs(there: Any, loss: Callable[[int, int, Any], Any]) -> Any:
    """The mean of a loss over those pairs of modalities that some sample has both of.

    Args:
        there: bool (N, M), of the whole batch.
        loss: (i, j, bool (N,): has both) -> ().
    """
    total, count = 0.0, 0.0
    for i, j in itertools.combinations(range(there.shape[1]), 2):
        both = there[:, i] & there[:, j]
        total = total + loss(i, j, both)
        count = count + ops.cast(ops.any(both), "float32")
    return total / ops.maximum(count, 1.0)


def _check_rows(name: str, y: Any, weights: Any) -> None:
    if y is not None and (
        len(y.shape) != 1 or "int" not in keras.backend.standardize_dtype(y.dtype)
    ):
        raise ValueError(
            f"The target of {name!r} must be the class of every sample, int (N,), as of mk.Label()."
            f" Received: {keras.backend.standardize_dtype(y.dtype)} {tuple(y.shape)}."
        )
    if weights is not None and len(weights.shape) != 1:
        raise ValueError(
            f"The sample weights of {name!r} must be (N,). Received: {tuple(weights.shape)}."
        )


def _clamped(x: Any, limit: float) -> Any:
    """min(x, limit); at the limit and above, descent may lower x and not raise it."""

    @ops.custom_gradient
    def clamped(x: Any) -> Any:
        def grad(*args: Any, upstream: Any = None) -> Any:
            d = upstream if upstream is not None else args[0]
            return ops.where(x >= limit, ops.maximum(d, 0.0), d)

        return ops.minimum(x, limit), grad

    return clamped(x)


def _unit(x: Any) -> Any:
    """x / |x|, with a finite gradient (of zero length) at zero."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24))
