"""Learned queries pool the tokens of all modalities."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import in_front, join, learned, repeat
from mmkeras.fusion.transformer import TransformerFusion


@register
class AttentionPoolingFusion(TransformerFusion):
    """N learned queries attend to all tokens; pooled = mean of the normalised queries.

    Pooling by multi-head attention (PMA of the Set Transformer, Lee et al. 2019, arXiv 1810.00825;
    with one query the attention pooling head of Zhai et al. 2022, arXiv 2106.04560).
    Deviations: pre-norm blocks; the tokens pass no feed-forward layer before; one learned token
    that is always there stands among them, so that a query may attend to nothing in particular
    and trains also over a single vector. Absent modalities are represented by their learned
    tokens.

    Cost: 8 L D^2 weights; L (12 N D^2 + 4 M T D^2 + 4 N M T D) FLOPs, linear in T. When to use
    it: the cheapest attention over long sequences, where few tokens matter and their interaction
    does not; `q_former` also lets the queries speak to each other.

    Args:
        num_queries: N.
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, N, D): the normalised queries.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_queries: int = 1,
        num_layers: int = 1,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        self.num_queries = checks.whole("num_queries", num_queries)

    def build_fusion(self) -> None:
        """Builds the queries and the blocks."""
        self.queries = learned(self, "queries", 1, self.num_queries)
        self.nothing = learned(self, "nothing", 1, 1)
        self.blocks = [self.block(f"block{i}", cross=True) for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Pools."""
        context, seen = in_front(self.nothing, *join(tokens, masks, self.modalities))
        x = repeat(self.queries, context)
        for block in self.blocks:
            x = block(x, seen, context, training=training)
        x = self.norm(x)
        mask = ops.ones_like(x[:, :, 0], dtype="bool")
        return {"tokens": x, "mask": mask, "pooled": ops.mean(x, axis=1)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """N."""
        return self.num_queries

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_queries": self.num_queries}
