"""Low-rank tensor fusion, with factors that train."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, product


@register
class LowRankFusion(VectorFusion):
    """pooled = sum_r w_r prod_m ([1; x_m] F_m,r) + b, r = 1..R, F_m,r of (D + 1, D).

    Low-rank multimodal fusion (LMF, Liu et al. 2018, arXiv 1806.00064, with the rank weights w
    of the authors' code): the outer product of `tensor_fusion`, then one linear map
    whose tensor has rank R, without ever forming either. x_m is the masked mean. Every factor,
    every w_r and b trains, as `tests/fusion` shows. Deviations: any number of modalities M >= 1;
    the row of F_m,r that belongs to the 1 starts at 1 and w at 1 / R (both Xavier in the code), so
    that at first pooled is b + the mean over r of prod_m (1 + u_m,r). An absent modality enters as
    its learned absent vector, which starts near zero: its factor is then near 1, and the product
    is that of the others instead of being killed. Product and sum are computed in float32.

    Weights M R D (D + 1) + R + D, FLOPs 2 M R D^2 + (M + 2) R D: linear in M. For three or more
    modalities, where the outer product is too large.

    Args:
        rank: R.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(self, modalities: Sequence[str], *, rank: int = 4, **kwargs: Any) -> None:
        """Stores the rank."""
        super().__init__(modalities, **kwargs)
        self.rank = checks.whole("rank", rank)

    def build_fusion(self) -> None:
        """Builds the factors, the rank weights and the bias."""
        width = self.rank * self.hidden_dim
        self.factors = {
            m: self.dense(f"{m}_factor", self.hidden_dim, width, bias_initializer="ones")
            for m in self.modalities
        }
        even = keras.initializers.Constant(1.0 / self.rank)
        self.rank_weights = self.add_weight((self.rank,), even, name="ranks", autocast=False)
        self.bias = self.add_weight((self.hidden_dim,), "zeros", name="bias", autocast=False)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies the factors and sums the ranks."""
        parts = (self.factors[m](x) for m, x in zip(self.modalities, vectors, strict=True))
        parts = ops.reshape(product(parts), (-1, self.rank, self.hidden_dim))
        pooled = ops.sum(parts * self.rank_weights[:, None], axis=1) + self.bias
        return self.drop(pooled, training=training)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rank": self.rank}
