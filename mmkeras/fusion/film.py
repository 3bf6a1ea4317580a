"""Feature-wise linear modulation of one modality by the others."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean


@register
class FiLMFusion(Fusion):
    """Residual blocks on the target's tokens, modulated by the other modalities.

    Block: h = gelu(W_a x); x + gelu((1 + gamma) * norm(W_b h) + beta), with (gamma, beta) one
    linear map of the condition c = [x_m for m != target], x_m the masked mean. FiLM (Perez et
    al. 2018, arXiv 1709.07871) on tokens: 1x1 instead of 3x3 convolutions, a layer norm without
    scale and shift instead of batch norm, GELU (the outer one in its tanh approximation), the
    skip from x and not from h, no maps of coordinates beside x. pooled = W [mean(x); max(x)] over
    the real tokens, the paper's head has the maximum alone. When the target is absent its learned
    absent token is modulated, so the condition still counts.

    Cost, L = num_layers, T tokens of the target: L (2 D^2 + 2 (M - 1) D^2) + 2 D^2 weights;
    L (4 T D^2 + 4 (M - 1) D^2) + 4 D^2 FLOPs. When to use it: when one modality says what to look
    for in another (a question about a picture), at a cost linear in T.

    Args:
        target: the modality that is modulated; the first declared when None.
        num_layers: number of blocks.

    Returns (see `Fusion`):
        tokens (B, T_target + 1, D).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        target: str | None = None,
        num_layers: int = 2,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        if len(self.modalities) < 2:
            raise ValueError(
                "FiLM needs a target and at least one condition, that is two modalities. "
                f"Received: {self.modalities}. With one, use 'concatenation'."
            )
        self.target = checks.one_of("target", target or self.modalities[0], self.modalities)
        self.num_layers = checks.whole("num_layers", num_layers)

    def build_fusion(self) -> None:
        """Builds the blocks."""
        dim, width = self.hidden_dim, (len(self.modalities) - 1) * self.hidden_dim
        self.blocks = []
        for i in range(self.num_layers):
            norm = keras.layers.LayerNormalization(
                epsilon=1e-6, center=False, scale=False, name=f"norm{i}", dtype=self.dtype_policy
            )
            norm.build((None, None, dim))
            self.blocks.append(
                (
                    self.dense(f"before{i}", dim, activation="gelu"),
                    self.dense(f"inside{i}", dim, use_bias=False),
                    norm,
                    self.dense(f"film{i}", width, 2 * dim),
                )
            )
        self.out = self.dense("out", 2 * dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Modulates the target's tokens."""
        x, mask = tokens[self.target], masks[self.target]
        others = [m for m in self.modalities if m != self.target]
        condition = ops.concatenate([masked_mean(tokens[m], masks[m]) for m in others], axis=1)
        condition = self.drop(condition, training=training)
        for before, inside, norm, film in self.blocks:
            gamma, beta = ops.split(film(condition)[:, None, :], 2, axis=-1)  # (B, 1, D) each
            x = x + ops.gelu((1.0 + gamma) * norm(inside(before(x))) + beta)
        nothing = ops.cast(-float("inf"), x.dtype)  # some token of every sample is there
        top = ops.max(ops.where(mask[:, :, None], x, nothing), axis=1)
        pooled = self.out(ops.concatenate([masked_mean(x, mask), top], axis=1))
        return {"tokens": x, "mask": mask, "pooled": pooled}

    def output_length(self, lengths: dict[str, int]) -> int:
        """The target's tokens and its absent token."""
        return lengths[self.target] + 1

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "target": self.target, "num_layers": self.num_layers}
