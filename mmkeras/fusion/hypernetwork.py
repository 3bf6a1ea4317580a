"""A hypernetwork: one modality writes the layer that the others go through."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class HypernetworkFusion(Fusion):
    """y_t = x_t + gelu(x_t W(e) + b(e)) for every token x_t of the other modalities.

    A hypernetwork (Ha et al. 2017, arXiv 1609.09106): the masked mean of the modality `source`
    gives a small code e = A x_source + a, and e gives the whole layer, W(e) of (D, D) and b(e) of
    (D,), as W(e) = sum_k e_k G_k + G_0. pooled = W_o mean(y) + b_o over all real tokens.
    Deviations: the code comes from the sample (in the paper from a learned embedding per layer, or
    from a recurrent state); one layer serves all other modalities, M >= 1: with M = 1 the modality
    writes its own layer; the residual path; G_0 starts as an ordinary layer's weights. When
    `source` is absent its learned absent vector writes a learned default layer; another modality
    that is absent goes through the layer as its learned absent token.

    With K = code_dim and T the number of tokens of the others: weights (D + 1) K +
    (K + 1) (D^2 + D) + (D + 1) D, FLOPs 2 D K + 2 K (D^2 + D) + 2 T D^2 + 4 T D + 2 D^2. For an
    input that says what to do with the others (a question, a task, a user). `film` changes scale
    and shift alone, for less.

    Args:
        source: the modality that writes the layer; the last declared when None.
        code_dim: K.

    Returns (see `Fusion`):
        tokens (B, sum of the others' (T_m + 1), D): the y_t, in declared order.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        source: str | None = None,
        code_dim: int = 8,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.source = checks.one_of("source", source or self.modalities[-1], self.modalities)
        self.code_dim = checks.whole("code_dim", code_dim)

    @property
    def readers(self) -> list[str]:
        """The modalities that go through the layer."""
        return [m for m in self.modalities if m != self.source] or [self.source]

    def build_fusion(self) -> None:
        """Builds the code, the writers of kernel and bias, and the way out."""
        dim = self.hidden_dim
        normal = keras.initializers.RandomNormal(stddev=dim**-0.5)
        self.code = self.dense("code", dim, self.code_dim)
        self.kernel = self.dense("kernel", self.code_dim, dim * dim, bias_initializer=normal)
        self.bias = self.dense("bias", self.code_dim, dim)
        self.out = self.dense("out", dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Writes the layer and applies it."""
        dim = self.hidden_dim
        code = self.code(masked_mean(tokens[self.source], masks[self.source]))
        kernel = ops.reshape(self.kernel(code), (-1, dim, dim))
        x = ops.concatenate([tokens[m] for m in self.readers], axis=1)
        mask = ops.concatenate([masks[m] for m in self.readers], axis=1)
        hidden = ops.gelu(ops.matmul(x, kernel) + self.bias(code)[:, None], approximate=False)
        x = x + self.drop(hidden, training=training)
        return {"tokens": x, "mask": mask, "pooled": self.out(masked_mean(x, mask))}

    def output_length(self, lengths: dict[str, int]) -> int:
        """The others' tokens and their absent tokens."""
        return sum(lengths[m] + 1 for m in self.readers)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "source": self.source, "code_dim": self.code_dim}
