"""A gated mixture of experts, one per modality."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion, taking_part
from mmkeras.layers import masked_mean


@register
class MixtureOfExpertsFusion(Fusion):
    """pooled = sum_m g_m E_m(x_m), g = softmax over the present m of V [x_1; ...; x_M] + c.

    Adaptive mixtures of local experts (Jacobs, Jordan, Nowlan and Hinton 1991): a gating network
    reads everything and says per sample whom to believe. Each expert E_m(x) = W'_m gelu(W_m x +
    b_m) + b'_m reads one modality, x_m being its masked mean, as do the experts of the MMVAE (Shi
    et al. 2019, arXiv 1911.03393). That one is not the model here: its mixture has the constant
    weights 1 / M and draws one expert at a time, which is a way to train a generative model and
    not to fuse for a task; with constant weights it would be a mean.

    Deviations from Jacobs et al.: experts that read different inputs; the outputs are blended
    before the loss, so that the experts cooperate (their own loss, of each expert by itself, lets
    them compete; for a mixture of decisions see `late_averaging`); absent modalities have weight
    zero, and the gate reads their learned absent vectors; where all are absent the mixture runs
    over these.

    When to use it: modalities whose reliability changes from sample to sample, and can be seen
    in them. `weighted_sum` has the same weights for all samples, `gated` a gate per dimension.

    Cost, beyond the projections of `Fusion`: M (2 D^2 + 2 D) + M^2 D + M weights; per sample
    4 M D^2 + 2 M^2 D + O(M T D) floating-point operations.

    Returns (see `Fusion`):
        tokens (B, M, D): the E_m(x_m), of the modalities in the mixture.
    """

    def __init__(self, modalities: Sequence[str], **kwargs: Any) -> None:
        """Stores the arguments; raises ValueError for one modality."""
        super().__init__(modalities, **kwargs)
        if len(self.modalities) < 2:
            raise ValueError(
                "A mixture of experts needs at least two modalities to choose from. "
                f"Received: {self.modalities}. With one, use 'concatenation'."
            )

    def build_fusion(self) -> None:
        """Builds the experts and the gate."""
        self.inner, self.outer = {}, {}
        for m in self.modalities:
            self.inner[m] = self.dense(f"{m}_inner", self.hidden_dim, activation="gelu")
            self.outer[m] = self.dense(f"{m}_outer", self.hidden_dim)
        count = len(self.modalities)
        self.gate = self.dense("gate", count * self.hidden_dim, count)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Asks the experts and blends them."""
        x = {m: masked_mean(tokens[m], masks[m]) for m in self.modalities}
        said = [
            self.outer[m](self.drop(self.inner[m](x[m]), training=training))
            for m in self.modalities
        ]
        said = ops.stack(said, axis=1)  # (B, M, D)
        logits = self.gate(ops.concatenate([x[m] for m in self.modalities], axis=1))
        experts = taking_part(present)
        weights = ops.softmax(ops.where(experts, ops.cast(logits, "float32"), -1e9), axis=1)
        pooled = ops.sum(ops.cast(weights, said.dtype)[:, :, None] * said, axis=1)
        return {"tokens": said, "mask": experts, "pooled": pooled}
