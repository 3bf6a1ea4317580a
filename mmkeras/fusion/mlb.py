"""Low-rank bilinear pooling by a Hadamard product."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, product


@register
class MLBFusion(VectorFusion):
    """pooled = P (h_1 * ... * h_M) + b, h_m = tanh(U_m x_m + c_m), * elementwise.

    Multimodal low-rank bilinear pooling (MLB, Kim et al. 2017, arXiv 1610.04325);
    x_m is the masked mean. Deviations: the elementwise product of any number of modalities
    M >= 1 (two in the paper), and c_m starts at 1. The learned absent vector of a modality starts
    near zero: with c_m = 0 its h_m, and with it the product, would be near zero; with 1 it is a
    constant tanh(1) that lets the others through, until it is learned. The product is computed in
    float32.

    With R = rank: weights M (D + 1) R + (R + 1) D, FLOPs 2 M D R + M R + 2 R D. The cheapest
    bilinear fusion, and the first to try: one product term per output direction.

    Args:
        rank: R, the width of the product; D when None.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(self, modalities: Sequence[str], *, rank: int | None = None, **kwargs: Any):
        """Stores the rank."""
        super().__init__(modalities, **kwargs)
        self.rank = checks.whole("rank", self.hidden_dim if rank is None else rank)

    def build_fusion(self) -> None:
        """Builds a factor per modality and the way out."""
        arguments = {"activation": "tanh", "bias_initializer": "ones"}
        self.factors = {
            m: self.dense(f"{m}_factor", self.hidden_dim, self.rank, **arguments)
            for m in self.modalities
        }
        self.out = self.dense("out", self.rank)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies."""
        z = product(self.factors[m](x) for m, x in zip(self.modalities, vectors, strict=True))
        return self.out(self.drop(z, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rank": self.rank}
