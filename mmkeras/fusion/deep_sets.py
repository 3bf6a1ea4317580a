"""The modalities as a set."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion, taking_part
from mmkeras.fusion.sequences import learned
from mmkeras.layers import masked_mean
from mmkeras.layers.masking import zero_masked


@register
class DeepSetsFusion(Fusion):
    """pooled = rho(sum_(m present) phi(x_m + e_m)), phi and rho perceptrons W_2 gelu(W_1 x).

    Deep sets (Zaheer et al. 2017, arXiv 1703.06114, theorem 2): phi is one for all modalities,
    x_m is the masked mean of modality m, e_m a learned vector that tells them apart. The sum runs
    over the modalities that are present, over the learned absent vectors of all where none is.
    Dropout acts inside phi and rho.

    Cost: 8 D^2 weights, however many modalities (beside D for each e_m); 8 (M + 1) D^2 + M T D
    FLOPs. When to use it: for many modalities of which any may be missing, and where a further one
    should cost next to nothing; a linear phi would make it `sum`.

    Args:
        intermediate_dim: hidden width of phi and rho; 2 D when None.

    Returns (see `Fusion`):
        tokens (B, M, D): the phi(x_m + e_m); true in the mask where they are in the sum.
    """

    def __init__(
        self, modalities: Sequence[str], *, intermediate_dim: int | None = None, **kwargs: Any
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.intermediate_dim = checks.whole(
            "intermediate_dim", intermediate_dim or 2 * self.hidden_dim
        )

    def build_fusion(self) -> None:
        """Builds the embeddings of the modalities, phi and rho."""
        dim, width = self.hidden_dim, self.intermediate_dim
        self.types = learned(self, "types", len(self.modalities))
        self.phi_in = self.dense("phi_in", dim, width, activation="gelu")
        self.phi_out = self.dense("phi_out", width)
        self.rho_in = self.dense("rho_in", dim, width, activation="gelu")
        self.rho_out = self.dense("rho_out", width)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Maps, adds and maps."""
        x = ops.stack([masked_mean(tokens[m], masks[m]) for m in self.modalities], axis=1)
        x = self.phi_in(x + ops.cast(self.types, x.dtype))
        x = self.phi_out(self.drop(x, training=training))
        members = taking_part(present)
        total = ops.sum(zero_masked(x, members), axis=1)
        pooled = self.rho_out(self.drop(self.rho_in(total), training=training))
        return {"tokens": x, "mask": members, "pooled": pooled}

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "intermediate_dim": self.intermediate_dim}
