"""Late fusion by concatenation."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class ConcatenationFusion(Fusion):
    """pooled = W2 gelu(W1 [x_1; ...; x_M]), x_m the masked mean of modality m.

    An absent modality enters as its learned absent vector. The common baseline of the field
    (e.g. Baltrusaitis et al. 2019, arXiv 1705.09406). Order in `modalities` is the order of the
    concatenation.

    Cost: (M + 1) D^2 weights; 2 (M + 1) D^2 FLOPs. When to use it: first, as what every other
    fusion must beat; it keeps all that the means hold and learns any interaction of them.

    Returns (see `Fusion`):
        tokens (B, M, D): the x_m.
    """

    def build_fusion(self) -> None:
        """Builds the two dense layers."""
        width = len(self.modalities) * self.hidden_dim
        self.mix = self.dense("mix", width, activation="gelu")
        self.out = self.dense("out", self.hidden_dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Concatenates and mixes."""
        x = ops.stack([masked_mean(tokens[m], masks[m]) for m in self.modalities], axis=1)
        flat = ops.reshape(x, (-1, len(self.modalities) * self.hidden_dim))
        pooled = self.out(self.drop(self.mix(flat), training=training))
        return {"tokens": x, "mask": ops.ones_like(present), "pooled": pooled}
