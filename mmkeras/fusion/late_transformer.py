"""One transformer over the tokens of all modalities: the default fusion."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import TransformerBlock


@register
class LateTransformerFusion(Fusion):
    """Self-attention over [CLS] and the tokens of every modality, each with a type embedding.

    The plain late-fusion transformer that 19 published fusions did not reliably beat
    (arXiv 2512.22991). pooled = the normalised [CLS]. Absent modalities are represented by their
    learned tokens. Attention costs O((sum T_m)^2 * D) per layer.

    Args:
        num_layers, num_heads: of the blocks.
        intermediate_dim: width of the MLPs; 2 D when None.
        remat: whether the blocks keep no activations (see `TransformerBlock`).

    Returns (see `Fusion`):
        tokens (B, 1 + sum (T_m + 1), D), [CLS] first.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        intermediate_dim: int | None = None,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.intermediate_dim = checks.whole(
            "intermediate_dim", intermediate_dim or 2 * self.hidden_dim
        )
        self.remat = bool(remat)

    def build_fusion(self) -> None:
        """Builds [CLS], the type embeddings and the blocks."""
        wide, policy = (None, None, self.hidden_dim), self.dtype_policy
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.cls = self.add_weight(shape=(1, 1, self.hidden_dim), initializer=normal, name="cls")
        self.types = self.add_weight(
            shape=(len(self.modalities), self.hidden_dim), initializer=normal, name="types"
        )
        self.blocks = []
        for i in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads,
                self.intermediate_dim,
                dropout=self.dropout,
                remat=self.remat,
                name=f"block{i}",
                dtype=policy,
            )
            block.build(wide)
            self.blocks.append(block)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)
        self.norm.build(wide)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends."""
        first = tokens[self.modalities[0]]
        cls = ops.cast(self.cls, first.dtype) + ops.zeros_like(first[:, :1])
        types = ops.cast(self.types, first.dtype)
        parts = [cls, *(tokens[m] + types[i] for i, m in enumerate(self.modalities))]
        mask = ops.concatenate(
            [ops.ones_like(present[:, :1]), *(masks[m] for m in self.modalities)], axis=1
        )
        x = ops.concatenate(parts, axis=1)
        for block in self.blocks:
            x = block(x, mask, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": x[:, 0]}

    def output_length(self, lengths: dict[str, int]) -> int:
        """[CLS] and every modality's tokens with its absent token."""
        return 1 + sum(length + 1 for length in lengths.values())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "remat": self.remat,
        }
