"""Every modality attends to every other, pair by pair."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.sequences import check_two, in_front, learned
from mmkeras.fusion.transformer import TransformerFusion
from mmkeras.layers import masked_mean


@register
class PairwiseCrossAttentionFusion(TransformerFusion):
    """pooled = W [..., v_ab, ...] over all ordered pairs; v_ab: tokens of a attended to those of b.

    v_ab is the masked mean of the normalised tokens of a after L blocks that attend to b, with
    weights of their own for each pair: the crossmodal attention of LXMERT (Tan & Bansal 2019,
    arXiv 1908.07490) and of `mult`, the pairs kept apart as in Ghosal et al. 2018 (EMNLP,
    "Contextual inter-modal attention"), without the memory of `mult`. Deviations: the tokens of b
    do not change from block to block and are led by one learned token that is always there, so
    that attention trains also where b is a single vector. Absent modalities are represented by
    their learned tokens on both sides.

    Cost: M (M - 1) (8 L + 1) D^2 weights; L M (M - 1) (16 T D^2 + 4 T^2 D) FLOPs. When to use it:
    for two or three modalities where it is not known which should ask which; `cross_attention`
    is one row of it.

    Args:
        num_layers, num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, M (M - 1), D): the v_ab, sorted by a, then b, as declared.
    """

    def __init__(self, modalities: Sequence[str], *, num_layers: int = 1, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        check_two("Pairwise cross-attention", self.modalities, "late_transformer")
        self.pairs = list(permutations(self.modalities, 2))

    def build_fusion(self) -> None:
        """Builds the blocks of every pair and the last layer."""
        self.first = {m: learned(self, f"{m}_first", 1, 1) for m in self.modalities}
        self.blocks = [
            [self.block(f"{a}_from_{b}_block{i}", cross=True) for i in range(self.num_layers)]
            for a, b in self.pairs
        ]
        self.norm = self.layer_norm("norm")
        self.out = self.dense("out", len(self.pairs) * self.hidden_dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends, pair by pair."""
        context = {m: in_front(self.first[m], tokens[m], masks[m]) for m in self.modalities}
        vectors = []
        for (a, b), blocks in zip(self.pairs, self.blocks, strict=True):
            x, (source, seen) = tokens[a], context[b]
            for block in blocks:
                x = block(x, seen, source, training=training)
            vectors.append(masked_mean(self.norm(x), masks[a]))
        x = ops.stack(vectors, axis=1)
        mask = ops.ones_like(x[:, :, 0], dtype="bool")
        return {"tokens": x, "mask": mask, "pooled": self.out(ops.concatenate(vectors, axis=1))}

    def output_length(self, lengths: dict[str, int]) -> int:
        """One token per ordered pair."""
        return len(self.pairs)
