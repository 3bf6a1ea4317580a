"""One modality attends to all the others."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import TransformerBlock, masked_mean


@register
class CrossAttentionFusion(Fusion):
    """Tokens of `query` attend to the tokens of the other modalities (one to all).

    Pre-norm transformer blocks (Vaswani et al. 2017; as in ViLBERT's co-attention, Lu et al.
    2019, in one direction). pooled = masked mean of the normalised query tokens. Absent
    modalities are represented by their learned tokens on both sides. Deviation: the context
    starts with one learned token that is always there, so that a query may attend to nothing in
    particular, and so that queries train when the context is a single vector. Attention costs
    O(T_query * T_others * D).

    Args:
        query: the modality that asks; the first declared when None.
        num_layers, num_heads: of the blocks.
        intermediate_dim: width of the MLPs; 2 D when None.
        remat: whether the blocks keep no activations (see `TransformerBlock`).

    Returns (see `Fusion`):
        tokens (B, T_query + 1, D).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        query: str | None = None,
        num_layers: int = 1,
        num_heads: int = 4,
        intermediate_dim: int | None = None,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        if len(self.modalities) < 2:
            raise ValueError(
                "Cross-attention needs at least two modalities. "
                f"Received: {self.modalities}. With one, use 'late_transformer'."
            )
        self.query = checks.one_of("query", query or self.modalities[0], self.modalities)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.intermediate_dim = checks.whole(
            "intermediate_dim", intermediate_dim or 2 * self.hidden_dim
        )
        self.remat = bool(remat)

    def build_fusion(self) -> None:
        """Builds the blocks."""
        wide, policy = (None, None, self.hidden_dim), self.dtype_policy
        self.nothing = self.add_weight(
            shape=(1, 1, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
            name="nothing",
        )
        self.blocks = []
        for i in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads,
                self.intermediate_dim,
                dropout=self.dropout,
                remat=self.remat,
                cross=True,
                name=f"block{i}",
                dtype=policy,
            )
            block.build(wide)
            self.blocks.append(block)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)
        self.norm.build(wide)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends."""
        others = [m for m in self.modalities if m != self.query]
        x, mask = tokens[self.query], masks[self.query]
        nothing = ops.cast(self.nothing, x.dtype) + ops.zeros_like(x[:, :1])
        context = ops.concatenate([nothing, *(tokens[m] for m in others)], axis=1)
        context_mask = ops.concatenate(
            [ops.ones_like(mask[:, :1]), *(masks[m] for m in others)], axis=1
        )
        for block in self.blocks:
            x = block(x, context_mask, context, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": masked_mean(x, mask)}

    def output_length(self, lengths: dict[str, int]) -> int:
        """The query's tokens and its absent token."""
        return lengths[self.query] + 1

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "query": self.query,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "remat": self.remat,
        }
