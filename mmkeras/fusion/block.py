"""Block-term bilinear superdiagonal fusion."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, power_norm, product, unit_scale


@register
class BlockFusion(VectorFusion):
    """pooled = W_o [z_1; ...; z_C] + b, z_c = norm(sum_r prod_m (N_m,c,r y_m,c + n_m,c,r)).

    BLOCK (Ben-younes et al. 2019, arXiv 1902.00038): a block-term decomposition of the bilinear
    form, that is a core tensor of C blocks on the superdiagonal, each of rank R as in `mutan`;
    y_m = W_m x_m + a_m is cut into C chunks y_m,c of width t, x_m is the masked mean and norm
    `power_norm`, per chunk as in the authors' code. Deviations: the product of any number of
    modalities M >= 1 (two in the paper), a normalisation with a finite derivative at zero, and
    the factors of each modality and chunk scaled to a root mean square of 1, which norm takes out
    again. An absent modality enters as its learned absent vector, which starts near zero: thanks
    to that scaling it is a constant pattern over the others and does not kill their product.
    Product, sum and norm are computed in float32.

    Weights M ((D + 1) C t + C R (t + 1) t) + (C t + 1) D, FLOPs
    2 M (D C t + C R t^2) + 5 M C R t + 6 C t + 2 C t D. A product of width C t at a C-th of the
    weights of `mutan`'s core; the strongest of the family in its paper, the one with most to set.

    Args:
        num_blocks: C.
        block_dim: t.
        rank: R.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_blocks: int = 4,
        block_dim: int = 16,
        rank: int = 5,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_blocks = checks.whole("num_blocks", num_blocks)
        self.block_dim = checks.whole("block_dim", block_dim)
        self.rank = checks.whole("rank", rank)

    def build_fusion(self) -> None:
        """Builds the sides and cores of each modality, and the way out."""
        count, dim, wide = self.num_blocks, self.block_dim, self.rank * self.block_dim
        self.sides, self.cores, self.shifts = {}, {}, {}
        for m in self.modalities:
            self.sides[m] = self.dense(f"{m}_side", self.hidden_dim, count * dim)
            self.cores[m] = self.add_weight((count, dim, wide), name=f"{m}_core")
            self.shifts[m] = self.add_weight((count, wide), "zeros", name=f"{m}_shift")
        self.out = self.dense("out", count * dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies per block and rank, sums the ranks and normalises each block."""
        count, dim = self.num_blocks, self.block_dim
        parts = []
        for m, x in zip(self.modalities, vectors, strict=True):
            chunks = ops.reshape(self.sides[m](x), (-1, count, dim))
            factor = ops.einsum("bct,ctk->bck", chunks, self.cores[m]) + self.shifts[m]
            parts.append(unit_scale(factor))
        z = ops.reshape(product(parts), (-1, count, self.rank, dim))
        z = ops.reshape(power_norm(ops.sum(z, axis=2)), (-1, count * dim))
        return self.out(self.drop(z, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_blocks": self.num_blocks,
            "block_dim": self.block_dim,
            "rank": self.rank,
        }
