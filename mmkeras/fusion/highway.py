"""Highway layers over the fused vector."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class HighwayFusion(Fusion):
    """z_0 = W [x_1; ...; x_M], then z <- t * relu(H_i z) + (1 - t) * z with t = sigmoid(T_i z).

    Highway layers (Srivastava et al. 2015, arXiv 1505.00387, equation 3) over the fused vector;
    x_m is the masked mean of modality m, an absent one enters as its learned absent vector. The
    bias of T starts negative (section 2.2 of the paper), at -2, so that at first the layers carry
    z on and the fusion is a linear one. pooled = z_L. Dropout acts on z_0.

    Cost: (M + 2 L) D^2 weights; twice as many FLOPs, and M T D. When to use it: for depth behind
    the concatenation that opens as far as the data ask for it. `gated` gates each modality; this
    gates what becomes of all of them together.

    Args:
        num_layers: highway layers L.

    Returns (see `Fusion`):
        tokens (B, M, D): the x_m.
    """

    def __init__(self, modalities: Sequence[str], *, num_layers: int = 2, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_layers = checks.whole("num_layers", num_layers)

    def build_fusion(self) -> None:
        """Builds the first map and the layers."""
        dim = self.hidden_dim
        closed = keras.initializers.Constant(-2.0)
        self.mix = self.dense("mix", len(self.modalities) * dim)
        self.values = [
            self.dense(f"value{i}", dim, activation="relu") for i in range(self.num_layers)
        ]
        self.gates = [
            self.dense(f"gate{i}", dim, activation="sigmoid", bias_initializer=closed)
            for i in range(self.num_layers)
        ]

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Mixes, then transforms or carries."""
        x = ops.stack([masked_mean(tokens[m], masks[m]) for m in self.modalities], axis=1)
        flat = ops.reshape(x, (-1, len(self.modalities) * self.hidden_dim))
        z = self.drop(self.mix(flat), training=training)
        for value, gate in zip(self.values, self.gates, strict=True):
            t = gate(z)
            z = t * value(z) + (1.0 - t) * z
        return {"tokens": x, "mask": ops.ones_like(present), "pooled": z}

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_layers": self.num_layers}
