"""Late fusion by addition."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class SumFusion(Fusion):
    """pooled = sum_m x_m, x_m the masked mean of the projected modality m.

    "Additive" of Kiela et al. 2018 (arXiv 1802.02892), W (U u + V v): U and V are the projections
    of the base class, W is the head. An absent modality enters as its learned absent vector,
    which may learn to be zero. Dropout acts on the sum.

    Cost: no weights; M T D FLOPs. When to use it: the cheapest baseline, and where modalities
    speak of the same thing; unlike `concatenation` it takes no products between modalities.

    Returns (see `Fusion`):
        tokens (B, M, D): the x_m.
    """

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Adds."""
        x = ops.stack([masked_mean(tokens[m], masks[m]) for m in self.modalities], axis=1)
        pooled = self.drop(ops.sum(x, axis=1), training=training)
        return {"tokens": x, "mask": ops.ones_like(present), "pooled": pooled}
