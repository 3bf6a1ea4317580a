"""Queries that speak to each other and, every few blocks, to the modalities."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import in_front, join, learned, repeat
from mmkeras.fusion.transformer import TransformerFusion


@register
class QFormerFusion(TransformerFusion):
    """N learned queries: L blocks of self-attention, cross-attention in every n-th of them.

    The querying transformer (Q-Former, BLIP-2, Li et al. 2023, arXiv 2301.12597, section 3.1):
    block i is self-attention among the queries; where i is a multiple of `cross_every`, it is
    followed by attention to the tokens of all modalities, each with a type embedding. pooled =
    mean of the normalised queries. Deviations: self- and cross-attention have a feed-forward layer
    each, in the paper they share one; pre-norm blocks, not started from BERT; no text stream
    beside the queries (text is one of the modalities); one learned token that is always there
    stands among the tokens, so that attention trains also over a single vector. Absent modalities
    are represented by their learned tokens.

    Cost, with K = ceil(L / cross_every): 8 (L + K) D^2 weights; L (16 N D^2 + 4 N^2 D) + K (12 N
    D^2 + 4 M T D^2 + 4 N M T D) FLOPs, linear in T. When to use it: in front of a language model,
    or where queries should divide the work between them; `perceiver_resampler` looks at the tokens
    in every layer.

    Args:
        num_queries: N, at least 2 (the paper: 32).
        cross_every: n, 2 in the paper.
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, N, D): the normalised queries.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_queries: int = 8,
        cross_every: int = 2,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_queries = checks.whole("num_queries", num_queries, 2)
        self.cross_every = checks.whole("cross_every", cross_every)

    def build_fusion(self) -> None:
        """Builds the queries, the type embeddings and the blocks."""
        self.queries = learned(self, "queries", 1, self.num_queries)
        self.types = learned(self, "types", len(self.modalities))
        self.nothing = learned(self, "nothing", 1, 1)
        self.blocks = []
        for i in range(self.num_layers):
            self.blocks.append(self.block(f"block{i}"))
            if i % self.cross_every == 0:
                self.blocks.append(self.block(f"cross{i}", cross=True))
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Asks."""
        context = join(tokens, masks, self.modalities, self.types)
        context, seen = in_front(self.nothing, *context)
        x = repeat(self.queries, context)
        mask = ops.ones_like(x[:, :, 0], dtype="bool")
        for block in self.blocks:
            given = (seen, context) if block.cross else (mask,)
            x = block(x, *given, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": ops.mean(x, axis=1)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """N."""
        return self.num_queries

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_queries": self.num_queries,
            "cross_every": self.cross_every,
        }
