"""One multi-layer perceptron per modality."""

from typing import Any

import keras

from mmkeras.alignment.base import Alignment
from mmkeras.core import register


@register
class NonlinearAlignment(Alignment):
    """LayerNorm(W2 gelu(W1 x + b1) + b2) per token and modality.

    The projector of contrastive learning (SimCLR, Chen et al. 2020) and of LLaVA-1.5 (Liu et al.
    2023), with a layer normalisation at the end, so that all modalities come at one scale.
    Arguments, call arguments and returns are those of `Alignment`.
    """

    def build_part(self, name: str, input_dim: int) -> None:
        """Builds the two dense layers and the normalisation."""
        norm = keras.layers.LayerNormalization(
            epsilon=1e-6, name=f"{name}_norm", dtype=self.dtype_policy
        )
        norm.build((None, None, self.hidden_dim))
        first = self.dense(f"{name}_hidden", input_dim, activation="gelu")
        setattr(self, f"{name}_map", [first, self.dense(f"{name}_out", self.hidden_dim), norm])

    def align(self, name: str, tokens: Any, mask: Any, training: bool) -> Any:
        """Returns the mapped tokens."""
        for layer in getattr(self, f"{name}_map"):
            tokens = layer(tokens)
        return tokens
