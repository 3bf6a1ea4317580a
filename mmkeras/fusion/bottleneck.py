"""Transformers that exchange only through a few tokens."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import in_front, join_first_in_front, learned, repeat
from mmkeras.fusion.transformer import TransformerFusion


@register
class BottleneckFusion(TransformerFusion):
    """A transformer per modality; from `fusion_layer` on, N shared tokens carry what is exchanged.

    The multimodal bottleneck transformer (MBT, Nagrani et al. 2021, arXiv 2107.00135). Each
    modality begins with its [CLS]_m and has blocks of its own. From `fusion_layer` on a block sees
    [its tokens; the N bottleneck tokens], and what the M modalities make of the bottleneck tokens
    is averaged before the next layer. pooled = mean over m of the normalised [CLS]_m (the paper
    averages their logits). Deviations: one norm for all in the end; the encoders stand for the
    paper's pretrained ViT below. Absent modalities are represented by their learned tokens.

    Cost: 8 L M D^2 weights; L M (16 (T + N) D^2 + 4 (T + N)^2 D) FLOPs, N only from `fusion_layer`
    on: the square of each T, not of their sum. When to use it: for long sequences (video with
    sound), where full attention across modalities is dear and mostly redundant.

    Args:
        fusion_layer: the first layer with bottleneck tokens; 0 to num_layers - 2, since one layer
            writes what the next one reads.
        num_bottlenecks: N.
        num_layers: blocks L of each modality.
        num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, M + sum (T_m + 1), D), the [CLS]_m first.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        fusion_layer: int = 0,
        num_bottlenecks: int = 4,
        num_layers: int = 2,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        self.fusion_layer = checks.whole("fusion_layer", fusion_layer, 0)
        self.num_bottlenecks = checks.whole("num_bottlenecks", num_bottlenecks)
        if self.fusion_layer > self.num_layers - 2:
            raise ValueError(
                "`fusion_layer` must be at most `num_layers` - 2: one layer writes the bottleneck "
                f"tokens, the next one reads them. Received: fusion_layer={self.fusion_layer}, "
                f"num_layers={self.num_layers}."
            )

    def build_fusion(self) -> None:
        """Builds the streams."""
        self.bottleneck = learned(self, "bottleneck", 1, self.num_bottlenecks)
        self.cls, self.streams = {}, {}
        for m in self.modalities:
            self.cls[m] = learned(self, f"{m}_cls", 1, 1)
            self.streams[m] = [self.block(f"{m}_block{i}") for i in range(self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends within, exchanging through the bottleneck."""
        x, seen = {}, {}
        for m in self.modalities:
            x[m], seen[m] = in_front(self.cls[m], tokens[m], masks[m])
        shared = repeat(self.bottleneck, x[self.modalities[0]])
        for i in range(self.num_layers):
            written = []
            for m in self.modalities:
                block = self.streams[m][i]
                if i < self.fusion_layer:
                    x[m] = block(x[m], seen[m], training=training)
                    continue
                both, mask = in_front(shared, x[m], seen[m])
                both = block(both, mask, training=training)
                written.append(both[:, : self.num_bottlenecks])
                x[m] = both[:, self.num_bottlenecks :]
            shared = sum(written) / len(written) if written else shared
        out, mask = join_first_in_front(x, seen, self.modalities)
        out = self.norm(out)
        pooled = ops.mean(out[:, : len(self.modalities)], axis=1)
        return {"tokens": out, "mask": mask, "pooled": pooled}

    def output_length(self, lengths: dict[str, int]) -> int:
        """Per modality its [CLS], its tokens and its absent token."""
        return sum(length + 2 for length in lengths.values())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "fusion_layer": self.fusion_layer,
            "num_bottlenecks": self.num_bottlenecks,
        }
