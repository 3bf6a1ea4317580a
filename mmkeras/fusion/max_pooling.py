"""Late fusion by the largest."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class MaxPoolingFusion(Fusion):
    """pooled = max_m x_m in every coordinate, x_m the masked mean of the projected modality m.

    "Max-pooling" of Kiela et al. 2018 (arXiv 1802.02892), W max(U u, V v): U and V are the
    projections of the base class, W is the head. An absent modality enters as its learned absent
    vector: it may learn to be so small that it is never the largest. Only the largest gets
    gradient, coordinate by coordinate. Dropout acts on the maximum.

    Cost: no weights; M T D FLOPs. When to use it: where one modality is enough and it is not
    always the same one; needs some width (D well above M) for every modality to have its say.

    Returns (see `Fusion`):
        tokens (B, M, D): the x_m.
    """

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Takes the largest."""
        x = ops.stack([masked_mean(tokens[m], masks[m]) for m in self.modalities], axis=1)
        pooled = self.drop(ops.max(x, axis=1), training=training)
        return {"tokens": x, "mask": ops.ones_like(present), "pooled": pooled}
