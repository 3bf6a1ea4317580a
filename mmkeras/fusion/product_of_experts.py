"""A product of Gaussian experts, one per modality."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion, taking_part
from mmkeras.layers import masked_mean


@register
class ProductOfExpertsFusion(Fusion):
    """pooled = (sum_m t_m * mu_m) / (1 + sum_m t_m), the sums over the present modalities.

    The mean of N(z; 0, 1) prod_m N(z; mu_m, 1 / t_m) in each of the D dimensions: every modality
    is an expert with a mean mu_m = W_m x_m + b_m and a precision t_m = exp(V_m x_m + c_m), x_m its
    masked mean, and the unit prior is one more (MVAE: Wu and Goodman 2018, arXiv 1802.05335). A
    modality that is absent is left out of the product; one that is sure of a dimension speaks
    louder there. Computed as a softmax over the modalities' log precisions and the prior's 0, so
    that nothing overflows.

    Deviations: the mean of the product is returned and no sample is drawn, nor is there a
    decoder (the ELBO is an objective, not a fusion); where all modalities are absent the product
    runs over their learned absent vectors, where MVAE returns the prior.

    When to use it: modalities that measure the same thing with different noise, and any of which
    may be missing. It cannot add up what only several modalities together tell.

    Cost, beyond the projections of `Fusion`: 2 M (D^2 + D) weights; per sample
    4 M D^2 + O(M T D) floating-point operations.

    Returns (see `Fusion`):
        tokens (B, M, D): the mu_m, of the modalities in the product.
    """

    def build_fusion(self) -> None:
        """Builds a mean and a log precision per modality."""
        self.means = {m: self.dense(f"{m}_mean", self.hidden_dim) for m in self.modalities}
        self.log_precisions = {
            m: self.dense(f"{m}_log_precision", self.hidden_dim) for m in self.modalities
        }

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Multiplies the experts."""
        x = {
            m: self.drop(masked_mean(tokens[m], masks[m]), training=training)
            for m in self.modalities
        }
        mean = ops.stack([self.means[m](x[m]) for m in self.modalities], axis=1)  # (B, M, D)
        logits = ops.stack([self.log_precisions[m](x[m]) for m in self.modalities], axis=1)
        experts = taking_part(present)
        logits = ops.where(experts[:, :, None], ops.cast(logits, "float32"), -1e9)
        prior = ops.zeros_like(logits[:, :1])
        weights = ops.softmax(ops.concatenate([prior, logits], axis=1), axis=1)[:, 1:]
        pooled = ops.sum(ops.cast(weights, mean.dtype) * mean, axis=1)
        return {"tokens": mean, "mask": experts, "pooled": pooled}
