"""A transformer per modality, then one over all of them."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.sequences import in_front, join_first_in_front, learned
from mmkeras.fusion.transformer import TransformerFusion


@register
class MidTransformerFusion(TransformerFusion):
    """Blocks per modality up to `fusion_layer`, joint ones after it; pooled = mean of the [CLS]_m.

    Each modality begins with its [CLS]_m. Below `fusion_layer` it has blocks of its own, over its
    own tokens; from there on all tokens attend to each other in shared blocks. pooled = mean over
    m of the normalised [CLS]_m. The "mid fusion" of Nagrani et al. 2021 (arXiv 2107.00135, figure
    2) with full attention above; deviation: above, the weights are shared by the modalities, as in
    a hybrid of separate and single-stream encoders. Absent modalities are represented by their
    learned tokens.

    Cost, with k = fusion_layer: 8 (k M + L - k) D^2 weights; 16 L M T D^2 + 4 (k M + (L - k) M^2)
    T^2 D FLOPs. When to use it: when encoders are shallow: the modalities first find their own
    features, and less attention is spent across them. k = 0 would be `late_transformer`.

    Args:
        fusion_layer: k, the first joint block; 1 to num_layers - 1.
        num_layers: blocks on the way of a token, L.
        num_heads, intermediate_dim, remat: see `TransformerFusion`.

    Returns (see `Fusion`):
        tokens (B, M + sum (T_m + 1), D), the [CLS]_m first.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        fusion_layer: int = 1,
        num_layers: int = 2,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, num_layers=num_layers, **kwargs)
        self.fusion_layer = checks.whole("fusion_layer", fusion_layer)
        if self.fusion_layer >= self.num_layers:
            raise ValueError(
                "`fusion_layer` must be below `num_layers`, or the modalities never meet. "
                f"Received: fusion_layer={self.fusion_layer}, num_layers={self.num_layers}."
            )

    def build_fusion(self) -> None:
        """Builds the streams and the joint blocks."""
        k = self.fusion_layer
        self.cls, self.streams = {}, {}
        for m in self.modalities:
            self.cls[m] = learned(self, f"{m}_cls", 1, 1)
            self.streams[m] = [self.block(f"{m}_block{i}") for i in range(k)]
        self.joint = [self.block(f"block{i}") for i in range(k, self.num_layers)]
        self.norm = self.layer_norm("norm")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Attends within, then across."""
        streams, seen = {}, {}
        for m in self.modalities:
            x, seen[m] = in_front(self.cls[m], tokens[m], masks[m])
            for block in self.streams[m]:
                x = block(x, seen[m], training=training)
            streams[m] = x
        x, mask = join_first_in_front(streams, seen, self.modalities)
        for block in self.joint:
            x = block(x, mask, training=training)
        x = self.norm(x)
        pooled = ops.mean(x[:, : len(self.modalities)], axis=1)
        return {"tokens": x, "mask": mask, "pooled": pooled}

    def output_length(self, lengths: dict[str, int]) -> int:
        """Per modality its [CLS], its tokens and its absent token."""
        return sum(length + 2 for length in lengths.values())

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "fusion_layer": self.fusion_layer}
