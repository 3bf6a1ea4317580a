"""What the fusions at the level of decisions share: a tower per modality, and no mixing."""

from typing import Any

from keras import ops

from mmkeras.fusion.base import Fusion, taking_part
from mmkeras.layers import masked_mean


class DecisionFusion(Fusion):
    """h_m = gelu(W_m x_m + b_m), x_m the masked mean of modality m: one tower per modality.

    The modalities meet after the heads and not here: `assemble` wraps every head H of a model
    with such a fusion in `mk.heads.Decision(H, combine=fusion.combine)`, which lets a copy of H
    decide on each h_m and combines what the present modalities say. In a graph of one's own,
    write the wrapper by hand. `pooled`, the mean of the h_m of the present modalities, is there
    for heads that are not wrapped. Where all are absent, the learned absent vectors decide.

    A subclass sets `combine`.

    Cost, beyond the projections of `Fusion`: M (D^2 + D) weights; per sample 2 M D^2 + O(M T D)
    floating-point operations; and M heads instead of one.

    Returns (see `Fusion`):
        tokens (B, M, D): the h_m, with the mask of the modalities that decide.
    """

    combine: str

    def build_fusion(self) -> None:
        """Builds the towers."""
        self.towers = {
            m: self.dense(f"{m}_tower", self.hidden_dim, activation="gelu") for m in self.modalities
        }

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Runs the towers."""
        h = [self.towers[m](masked_mean(tokens[m], masks[m])) for m in self.modalities]
        h = self.drop(ops.stack(h, axis=1), training=training)  # (B, M, D)
        mask = taking_part(present)
        return {"tokens": h, "mask": mask, "pooled": masked_mean(h, mask)}
