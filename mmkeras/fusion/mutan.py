"""Multimodal Tucker fusion."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, product


@register
class MUTANFusion(VectorFusion):
    """pooled = W_o z + b, z = 1/R sum_r prod_m (N_m,r y_m + c_m,r), y_m = tanh(W_m x_m + a_m).

    MUTAN (Ben-younes et al. 2017, arXiv 1705.06676): a Tucker decomposition of
    the bilinear form, the slices of its core tensor of rank R; x_m is the masked mean. Deviations:
    the product of any number of modalities M >= 1 (two in the paper), biases, c_m,r starts at 1,
    and the mean over r instead of the sum (W_o takes the factor). The learned absent vector of a
    modality starts near zero: with c = 0 it would kill the product, with 1 its factor is near 1
    and lets the others through, until it is learned. Product and mean are computed in float32.

    With t = tucker_dim: weights M ((D + 1) t + (t + 1) R t) + (t + 1) D, FLOPs
    2 M (D t + R t^2) + M R t + 2 t D. Between `mlb` (R = 1, without W_m) and `tensor_fusion`, at a
    cost linear in M; t below D bounds the weights.

    Args:
        tucker_dim: t, the width of each side of the core tensor and of z; D when None.
        rank: R.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        tucker_dim: int | None = None,
        rank: int = 5,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        tucker_dim = self.hidden_dim if tucker_dim is None else tucker_dim
        self.tucker_dim = checks.whole("tucker_dim", tucker_dim)
        self.rank = checks.whole("rank", rank)

    def build_fusion(self) -> None:
        """Builds the sides and the core of each modality, and the way out."""
        dim, wide = self.tucker_dim, self.rank * self.tucker_dim
        self.sides, self.cores = {}, {}
        for m in self.modalities:
            self.sides[m] = self.dense(f"{m}_side", self.hidden_dim, dim, activation="tanh")
            self.cores[m] = self.dense(f"{m}_core", dim, wide, bias_initializer="ones")
        self.out = self.dense("out", dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies per rank and averages."""
        named = zip(self.modalities, vectors, strict=True)
        z = product(self.cores[m](self.sides[m](x)) for m, x in named)
        z = ops.mean(ops.reshape(z, (-1, self.rank, self.tucker_dim)), axis=1)
        return self.out(self.drop(z, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "tucker_dim": self.tucker_dim, "rank": self.rank}
