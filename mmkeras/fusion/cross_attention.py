"""One modality attends to all the others."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import check_two, in_front, join, learned
from mmkeras.fusion.transformer import TransformerFusion
from mmkeras.layers import masked_mean


@register
class CrossAttentionFusion(TransformerFusion):
    """Tokens of `query` attend to the tokens of the other modalities (one to all).

    Pre-norm transformer blocks (Vaswani et al. 2017; as in ViLBERT's co-attention, Lu et al.
    2019, in one direction). pooled = masked mean of the normalised query tokens. Absent
    modalities are represented by their learned tokens on both sides. Deviation: the context
    starts with one learned token that is always there, so that a query may attend to nothing in
    particular, and so that queries train when the context is a single vector.

    Cost: 8 L D^2 weights; 4 L (M + 2) T D^2 + 4 L (M - 1) T^2 D FLOPs. When to use it: when one
    modality is the subject and the others are its context; it alone is in what is pooled.

    Args:
        query: the modality that asks; the first declared when None.
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, T_query + 1, D).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        query: str | None = None,
        num_layers: int = 1,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        check_two("Cross-attention", self.modalities, "late_transformer")
        self.query = checks.one_of("query", query or self.modalities[0], self.modalities)

    def build_fusion(self) -> None:
        """Builds the blocks."""
        self.nothing = learned(self, "nothing", 1, 1)
        self.blocks = [self.block(f"block{i}", cross=True) for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends."""
        others = [m for m in self.modalities if m != self.query]
        x, mask = tokens[self.query], masks[self.query]
        context, seen = in_front(self.nothing, *join(tokens, masks, others))
        for block in self.blocks:
            x = block(x, seen, context, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": masked_mean(x, mask)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """The query's tokens and its absent token."""
        return lengths[self.query] + 1

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "query": self.query}
