"""One transformer over the tokens of all modalities: the default fusion."""

from typing import Any

from mmkeras.core import register
from mmkeras.fusion.sequences import in_front, join, learned
from mmkeras.fusion.transformer import TransformerFusion


@register
class LateTransformerFusion(TransformerFusion):
    """Self-attention over [CLS] and the tokens of every modality, each with a type embedding.

    The plain late-fusion transformer that 19 published fusions did not reliably beat
    (arXiv 2512.22991). pooled = the normalised [CLS]. Absent modalities are represented by their
    learned tokens.

    Cost: 8 L D^2 weights; 16 L (M T) D^2 + 4 L (M T)^2 D FLOPs. When to use it: by default, while
    M T is some hundreds of tokens; beyond, `bottleneck` or `perceiver_resampler`.

    Args:
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, 1 + sum (T_m + 1), D), [CLS] first.
    """

    def build_fusion(self) -> None:
        """Builds [CLS], the type embeddings and the blocks."""
        self.cls = learned(self, "cls", 1, 1)
        self.types = learned(self, "types", len(self.modalities))
        self.blocks = [self.block(f"block{i}") for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends."""
        x, mask = in_front(self.cls, *join(tokens, masks, self.modalities, self.types))
        for block in self.blocks:
            x = block(x, mask, training=training)
        x = self.norm(x)
        return {"tokens": x, "mask": mask, "pooled": x[:, 0]}

    def output_length(self, lengths: dict[str, int]) -> int:
        """[CLS] and every modality's tokens with its absent token."""
        return 1 + sum(length + 1 for length in lengths.values())
