"""A deep perceptron over the concatenated modalities."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class MLPFusion(Fusion):
    """h_0 = [x_1; ...; x_M], h_i = gelu(W_i norm(h_(i-1))), pooled = W h_L.

    x_m is the masked mean of modality m, an absent one enters as its learned absent vector; norm
    is a layer norm without scale and shift. The joint layers of Ngiam et al. 2011 ("Multimodal
    deep learning"), supervised and with GELU. It differs from `concatenation`, which is
    W_2 gelu(W_1 h_0) with one hidden layer of width D, in depth, width and the norms, without
    which three layers train badly. Dropout acts behind every hidden layer.

    Cost: (2 M + 4 (L - 1) + 2) D^2 weights; twice as many FLOPs, and M T D. When to use it: when
    the pooled vectors interact in a way that one hidden layer misses, and there is data for it.

    Args:
        num_layers: hidden layers L.
        intermediate_dim: width of the hidden layers; 2 D when None.

    Returns (see `Fusion`):
        tokens (B, M, D): the x_m.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_layers: int = 3,
        intermediate_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.intermediate_dim = checks.whole(
            "intermediate_dim", intermediate_dim or 2 * self.hidden_dim
        )

    def build_fusion(self) -> None:
        """Builds the layers."""
        width = len(self.modalities) * self.hidden_dim
        self.norms, self.hidden = [], []
        for i in range(self.num_layers):
            norm = keras.layers.LayerNormalization(
                epsilon=1e-6, center=False, scale=False, name=f"norm{i}", dtype=self.dtype_policy
            )
            norm.build((None, width))
            self.norms.append(norm)
            self.hidden.append(
                self.dense(f"hidden{i}", width, self.intermediate_dim, activation="gelu")
            )
            width = self.intermediate_dim
        self.out = self.dense("out", width)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Concatenates and maps."""
        means = [masked_mean(tokens[m], masks[m]) for m in self.modalities]
        h = ops.concatenate(means, axis=1)
        for norm, hidden in zip(self.norms, self.hidden, strict=True):
            h = self.drop(hidden(norm(h)), training=training)
        x = ops.stack(means, axis=1)
        return {"tokens": x, "mask": ops.ones_like(present), "pooled": self.out(h)}

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "intermediate_dim": self.intermediate_dim,
        }
