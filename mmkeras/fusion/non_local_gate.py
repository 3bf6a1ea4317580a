"""A non-local gate: the tokens of one modality read the others."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class NonLocalGateFusion(Fusion):
    """z_i = x_i + sum_m W_m sum_j a_m,ij g_m(y_m,j), x the tokens of `query`, y_m of another.

    a_m,ij = exp(l_m,ij) / (1 + sum_j exp(l_m,ij)), l_m,ij = theta_m(x_i) . phi_m(y_m,j) / sqrt(E).
    The non-local block (Wang et al. 2018, arXiv 1711.07971, with the embedded Gaussian) between
    modalities (Wang et al. 2020, arXiv 1905.12681, "NL-gate"): theta, phi and g are linear maps to
    a bottleneck of width E, W_m maps back. pooled = masked mean of the z_i. Deviations: one block
    per other modality, summed, M >= 1 (two in the paper; with M = 1 the modality reads itself, the
    block of 2018); the division by sqrt(E); no batch norm, and W_m does not start at zero; and the
    1 in the denominator, a key with logit and value zero. It lets a query read nothing, and makes
    the block a sigmoid gate where there is one key, whose query and key would never train in a
    softmax. An absent modality is read as its learned token; where `query` is absent its learned
    token asks. The weights a are computed in float32.

    With M' = max(M - 1, 1): weights M' (3 (D + 1) E + (E + 1) D), FLOPs M' (4 D E (T_query + T) +
    4 T_query T E), T the tokens of the other. For a grid or a clip that a second input should look
    into. `cross_attention` stacks such blocks with heads and MLPs, at a higher cost.

    Args:
        query: the modality that asks; the first declared when None.
        intermediate_dim: E; half of D, rounded up, when None.

    Returns (see `Fusion`):
        tokens (B, T_query + 1, D): the z_i.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        query: str | None = None,
        intermediate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.query = checks.one_of("query", query or self.modalities[0], self.modalities)
        width = (self.hidden_dim + 1) // 2 if intermediate_dim is None else intermediate_dim
        self.intermediate_dim = checks.whole("intermediate_dim", width)

    @property
    def others(self) -> list[str]:
        """The modalities that are read."""
        return [m for m in self.modalities if m != self.query] or [self.query]

    def build_fusion(self) -> None:
        """Builds the four maps of each block."""
        dim, width = self.hidden_dim, self.intermediate_dim
        self.blocks = {
            m: {
                "theta": self.dense(f"{m}_theta", dim, width),
                "phi": self.dense(f"{m}_phi", dim, width),
                "g": self.dense(f"{m}_g", dim, width),
                "back": self.dense(f"{m}_back", width),
            }
            for m in self.others
        }

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Reads every other modality."""
        x, mask = tokens[self.query], masks[self.query]
        z = x
        for m in self.others:
            block, y = self.blocks[m], tokens[m]
            logits = ops.matmul(block["theta"](x), ops.transpose(block["phi"](y), (0, 2, 1)))
            logits = ops.cast(logits, "float32") * self.intermediate_dim**-0.5
            logits = ops.where(masks[m][:, None, :], logits, -1e9)
            logits = ops.concatenate([ops.zeros_like(logits[:, :, :1]), logits], axis=2)
            weights = ops.cast(ops.softmax(logits, axis=2)[:, :, 1:], x.dtype)
            read = ops.matmul(weights, block["g"](y))
            z = z + block["back"](self.drop(read, training=training))
        return {"tokens": z, "mask": mask, "pooled": masked_mean(z, mask)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """The query's tokens and its absent token."""
        return lengths[self.query] + 1

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "query": self.query,
            "intermediate_dim": self.intermediate_dim,
        }
