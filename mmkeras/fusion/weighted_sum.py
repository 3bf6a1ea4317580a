"""Learned convex combination of the modalities."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion, taking_part
from mmkeras.layers import masked_mean


@register
class WeightedSumFusion(Fusion):
    """pooled = sum_m a_m h_m, a = softmax over the present modalities of learned logits.

    h_m = W_m mean(modality m) + b_m. One global weight per modality: the weighted average of late
    fusion (e.g. Baltrusaitis et al. 2019, arXiv 1705.09406), by softmax as the attention over
    modalities of Hori et al. 2017 (arXiv 1701.03126), but the same for all samples. An absent
    modality has weight zero and the rest sum to one. With all absent the weights run over the
    learned absent vectors.

    Cost: M D^2 weights; 2 M D^2 FLOPs. When to use it: when modalities say the same and one number
    should tell how much each counts; no entry of one can change how another is read.

    Returns (see `Fusion`):
        tokens (B, M, D): the h_m.
    """

    def build_fusion(self) -> None:
        """Builds the logits and one dense layer per modality."""
        self.values = {m: self.dense(f"{m}_value", self.hidden_dim) for m in self.modalities}
        self.logits = self.add_weight(
            shape=(len(self.modalities),),
            initializer="zeros",
            dtype="float32",
            trainable=len(self.modalities) > 1,  # the softmax of one logit is 1
            name="logits",
        )

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Weighs and sums."""
        h = [self.values[m](masked_mean(tokens[m], masks[m])) for m in self.modalities]
        h = self.drop(ops.stack(h, axis=1), training=training)  # (B, M, D)
        logits = ops.where(taking_part(present), ops.cast(self.logits, "float32"), -1e9)
        weights = ops.softmax(logits, axis=1)
        pooled = ops.sum(ops.cast(weights, h.dtype)[:, :, None] * h, axis=1)
        return {"tokens": h, "mask": ops.ones_like(present), "pooled": pooled}
