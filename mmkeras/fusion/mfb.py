"""Multimodal factorised bilinear pooling."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, power_norm, product, sum_pool, unit_scale


@register
class MFBFusion(VectorFusion):
    """pooled = W norm(SumPool(u_1 * ... * u_M, k)) + b, u_m = U_m x_m + c_m of width k N.

    Multimodal factorised bilinear pooling (MFB, Yu et al. 2017, arXiv 1708.01471):
    each of the N outputs of the pooling sums k neighbours of the elementwise product, a bilinear
    form of rank k; norm is `power_norm`: signed square root, then l2. x_m is the masked mean.
    Deviations: the product of any number of modalities M >= 1 (two in the paper), biases, the map
    W to the common width, dropout after the normalisation instead of before the pooling, a
    normalisation with a finite derivative at zero, and each u_m scaled to a root mean square of 1,
    a factor that norm takes out again. An absent modality enters as its learned absent vector,
    which starts near zero: thanks to that scaling it is a constant pattern over the others and
    does not kill their product. Product and norm are computed in float32.

    With N = pool_dim: weights M (D + 1) k N + (N + 1) D, FLOPs 2 M D k N + 4 M k N + 6 N + 2 N D.
    Where `mlb` underfits: k product terms per output.

    Args:
        pool_dim: N; D when None.
        factors: k.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        pool_dim: int | None = None,
        factors: int = 5,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.pool_dim = checks.whole("pool_dim", self.hidden_dim if pool_dim is None else pool_dim)
        self.factors = checks.whole("factors", factors)

    def build_fusion(self) -> None:
        """Builds a wide map per modality and the way out."""
        width = self.factors * self.pool_dim
        self.wide = {m: self.dense(f"{m}_wide", self.hidden_dim, width) for m in self.modalities}
        self.out = self.dense("out", self.pool_dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies, pools and normalises."""
        named = zip(self.modalities, vectors, strict=True)
        z = product(unit_scale(self.wide[m](x)) for m, x in named)
        z = power_norm(sum_pool(z, self.factors))
        return self.out(self.drop(z, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "pool_dim": self.pool_dim, "factors": self.factors}
