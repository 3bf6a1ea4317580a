"""Multimodal factorised high-order pooling: a cascade of bilinear poolings."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, power_norm, product, sum_pool, unit_scale


@register
class MFHFusion(VectorFusion):
    """pooled = W [z^1; ...; z^p] + b, z^i = norm(SumPool(e^i, k)), e^i = e^(i-1) * u_1^i ... u_M^i.

    Multimodal factorised high-order pooling (MFH, Yu et al. 2018, arXiv 1708.03619):
    p blocks of `mfb` whose products are handed on, so that block i is a form of order i in
    each modality; e^0 = 1, u_m^i = U_m^i x_m + c_m^i of width k N, norm is `power_norm`, x_m the
    masked mean. Deviations: as of `mfb` (any number of modalities M >= 1, biases, the map W,
    dropout after the normalisation, which has a finite derivative at zero, each u_m^i scaled to a
    root mean square of 1, which norm takes out again). An absent modality enters as its learned
    absent vector, thanks to that scaling a constant pattern over the others that does not kill
    their product. Products and norms are computed in float32.

    With N = pool_dim: weights p M (D + 1) k N + (p N + 1) D, FLOPs
    p (2 M D k N + (4 M + 1) k N + 6 N) + 2 p N D. Where `mfb` underfits: p = 1 is `mfb`.

    Args:
        num_blocks: p.
        pool_dim: N; D when None.
        factors: k.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_blocks: int = 2,
        pool_dim: int | None = None,
        factors: int = 5,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_blocks = checks.whole("num_blocks", num_blocks)
        self.pool_dim = checks.whole("pool_dim", self.hidden_dim if pool_dim is None else pool_dim)
        self.factors = checks.whole("factors", factors)

    def build_fusion(self) -> None:
        """Builds a wide map per block and modality, and the way out."""
        width = self.factors * self.pool_dim
        self.wide = [
            {m: self.dense(f"{m}_wide{i}", self.hidden_dim, width) for m in self.modalities}
            for i in range(self.num_blocks)
        ]
        self.out = self.dense("out", self.num_blocks * self.pool_dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Runs the cascade."""
        before, blocks = [], []
        for wide in self.wide:
            maps = [unit_scale(wide[m](x)) for m, x in zip(self.modalities, vectors, strict=True)]
            before = [product([*before, *maps])]
            blocks.append(power_norm(sum_pool(before[0], self.factors)))
        return self.out(self.drop(ops.concatenate(blocks, axis=1), training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_blocks": self.num_blocks,
            "pool_dim": self.pool_dim,
            "factors": self.factors,
        }
