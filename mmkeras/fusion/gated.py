"""Gated multimodal unit."""

from typing import Any

from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class GatedFusion(Fusion):
    """pooled = sum_m z_m * h_m, h_m = tanh(W_m x_m), z_m = sigmoid(V_m [x_1; ...; x_M]).

    The gated multimodal unit (Arevalo et al. 2017, arXiv 1702.01992, the form for M modalities);
    x_m is the masked mean. Deviations: biases, and an absent modality enters the gates (and the
    sum) as its learned absent vector.

    Cost: M D^2 + M^2 D^2 weights; 2 M D^2 + 2 M^2 D^2 FLOPs. When to use it: when modalities differ
    in how far they can be trusted from sample to sample, and it is to be seen which was.

    Returns (see `Fusion`):
        tokens (B, M, D): the gated z_m * h_m.
    """

    def build_fusion(self) -> None:
        """Builds a value and a gate per modality."""
        width = len(self.modalities) * self.hidden_dim
        self.values, self.gates = {}, {}
        for m in self.modalities:
            self.values[m] = self.dense(f"{m}_value", self.hidden_dim, activation="tanh")
            self.gates[m] = self.dense(f"{m}_gate", width, activation="sigmoid")

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Gates and sums."""
        x = {m: masked_mean(tokens[m], masks[m]) for m in self.modalities}
        together = self.drop(
            ops.concatenate([x[m] for m in self.modalities], axis=1), training=training
        )
        gated = [self.gates[m](together) * self.values[m](x[m]) for m in self.modalities]
        gated = ops.stack(gated, axis=1)
        return {
            "tokens": gated,
            "mask": ops.ones_like(present),
            "pooled": ops.sum(gated, axis=1),
        }
