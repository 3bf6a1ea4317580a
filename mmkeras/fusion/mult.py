"""Directional pairwise cross-modal transformers, with a memory per modality."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import check_two, in_front, learned
from mmkeras.fusion.transformer import TransformerFusion


@register
class MulTFusion(TransformerFusion):
    """Each modality attends to each other; self-attention over the results; their ends are mixed.

    The multimodal transformer (MulT, Tsai et al. 2019, arXiv 1906.00295). For each target a:

        Z_ab = L blocks in which the tokens X_a attend to the low-level X_b, for each b != a
        Z_a = memory_layers self-attention blocks over [Z_ab, ...], (M - 1) D wide
        h_a = W_a norm(Z_a)[first token]; pooled = sum_a h_a

    The sum is the paper's fully connected layer on the concatenation. Deviations: no temporal
    convolution (the projection of the base class is one of kernel 1) and no positions (encoders
    give them); every X begins with one learned token, which is read instead of the paper's last
    one, and which is always there, so that attention trains also where X is a single vector; no
    residual perceptron before the head; pre-norm blocks with GELU. Absent modalities are
    represented by their learned tokens.

    Cost: 8 L M (M - 1) D^2 + 8 L' M (M - 1)^2 D^2 + M (M - 1) D^2 weights, L' = memory_layers;
    L M (M - 1) (16 T D^2 + 4 T^2 D) + L' M (16 T (M - 1)^2 D^2 + 4 T^2 (M - 1) D) FLOPs. When to
    use it: for two or three unaligned sequences (speech, text, face) and enough data; it grows
    with M^3.

    Args:
        num_layers: crossmodal blocks L of a pair.
        memory_layers: self-attention blocks of a target.
        num_heads, intermediate_dim, remat: see `TransformerFusion`; the memory's MLPs are
            (M - 1) times as wide.

    Returns (see `Fusion`):
        tokens (B, M, D): the h_a.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_layers: int = 1,
        memory_layers: int = 1,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        check_two("MulT", self.modalities, "late_transformer")
        self.memory_layers = checks.whole("memory_layers", memory_layers)

    def build_fusion(self) -> None:
        """Builds the blocks of every pair, the memories and the last layers."""
        sources = len(self.modalities) - 1
        self.first, self.cross, self.memory, self.norms, self.outs = {}, {}, {}, {}, {}
        for a in self.modalities:
            self.first[a] = learned(self, f"{a}_first", 1, 1)
            for b in self._others(a):
                self.cross[f"{a}_from_{b}"] = [
                    self.block(f"{a}_from_{b}_block{i}", cross=True) for i in range(self.num_layers)
                ]
            self.memory[a] = [
                self.block(f"{a}_memory{i}", widen=sources) for i in range(self.memory_layers)
            ]
            self.norms[a] = self.layer_norm(f"{a}_norm", widen=sources)
            self.outs[a] = self.dense(f"{a}_out", sources * self.hidden_dim)

    def _others(self, a: str) -> list[str]:
        return [b for b in self.modalities if b != a]

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends across, then within, and reads the first tokens."""
        start = {m: in_front(self.first[m], tokens[m], masks[m]) for m in self.modalities}
        ends = []
        for a in self.modalities:
            parts, mask = [], start[a][1]
            for b in self._others(a):
                x, (source, seen) = start[a][0], start[b]
                for block in self.cross[f"{a}_from_{b}"]:
                    x = block(x, seen, source, training=training)
                parts.append(x)
            x = ops.concatenate(parts, axis=-1)  # (B, T, (M - 1) D)
            for block in self.memory[a]:
                x = block(x, mask, training=training)
            ends.append(self.outs[a](self.norms[a](x[:, 0])))
        h = ops.stack(ends, axis=1)
        return {"tokens": h, "mask": ops.ones_like(present), "pooled": ops.sum(h, axis=1)}

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "memory_layers": self.memory_layers}
