"""Multiplicative interactions."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion

FORMS = ("matrix", "scalar", "vector")


@register
class MultiplicativeFusion(VectorFusion):
    """pooled = W_o f_M + b_o, f_1 = x_1, f_m = f_(m-1) (W_m x_m + V_m) + U_m x_m + b_m.

    Multiplicative interactions (Jayakumar et al. 2020, "Multiplicative interactions and where to
    find them", ICLR): x_m generates the affine map that is applied to what came
    before. x_m is the masked mean. W_m x_m + V_m is

    - form="matrix": a matrix (D, D), the general form, a full three-way tensor W_m;
    - form="vector": its diagonal, so a gate per entry (as FiLM);
    - form="scalar": one number, and one number as shift: a scale of the whole vector.

    Deviations: for M > 2 the interactions are chained in declared order (two inputs in the
    paper), for M = 1 there is none, pooled = W_o x_1 + b_o; the map W_o; V_m starts as the
    identity, so that f_m starts near f_(m-1) + U_m x_m. An absent modality enters as its learned
    absent vector: it generates a learned default map, near the identity at first, so it does not
    kill the chain.

    With K = D^2, D or 1 for the three forms and S = D, D, 1: weights (M - 1) (D + 1) (K + S) +
    (D + 1) D, FLOPs (M - 1) (2 D K + 2 K + 2 D S + D) + 2 D^2. "matrix" has D^3 weights per
    modality: use it where one modality decides how another is to be read and D is small, else
    "vector".

    Args:
        form: "matrix", "vector" or "scalar".

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(self, modalities: Sequence[str], *, form: str = "matrix", **kwargs: Any) -> None:
        """Stores the form."""
        super().__init__(modalities, **kwargs)
        self.form = checks.one_of("form", form, FORMS)

    def build_fusion(self) -> None:
        """Builds the generators of map and shift, and the way out."""
        dim = self.hidden_dim
        size = {"matrix": dim * dim, "vector": dim, "scalar": 1}[self.form]
        start = identity if self.form == "matrix" else "ones"
        self.maps, self.shifts = {}, {}
        for m in self.modalities[1:]:
            self.maps[m] = self.dense(f"{m}_map", dim, size, bias_initializer=start)
            self.shifts[m] = self.dense(f"{m}_shift", dim, 1 if self.form == "scalar" else dim)
        self.out = self.dense("out", dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Chains the interactions."""
        f = vectors[0]
        for m, x in zip(self.modalities[1:], vectors[1:], strict=True):
            weights = self.maps[m](x)
            if self.form == "matrix":
                weights = ops.reshape(weights, (-1, self.hidden_dim, self.hidden_dim))
                f = ops.einsum("bi,bij->bj", f, weights)
            else:
                f = f * weights
            f = f + self.shifts[m](x)
        return self.out(self.drop(f, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "form": self.form}


def identity(shape: tuple, dtype: str | None = None) -> Any:
    """Initializer of a flat (D * D,): the identity matrix."""
    dim = int(shape[0] ** 0.5)
    return ops.reshape(ops.eye(dim, dtype=dtype), shape)
