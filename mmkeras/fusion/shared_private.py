"""MISA: what the modalities share and what is private to each, kept apart by losses."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.base import Fusion
from mmkeras.layers import TransformerBlock, masked_mean


@register
class SharedPrivateFusion(Fusion):
    """pooled = W [block(p_1, ..., p_M, s_1, ..., s_M)] + b, a transformer over 2 M vectors.

    MISA (Hazarika, Zimmermann and Poria 2020, arXiv 2005.03545). u_m is the layer-normalised
    masked mean of modality m; s_m = sigmoid(S u_m + a) with one S for all, p_m = sigmoid(P_m u_m
    + a_m). Three losses, added to the task's by `add_loss`, each a mean over the samples:

        similarity      mean over pairs of present modalities of mean_d (s_m - s_n)^2
        difference      mean over the present m of r(s_m, p_m)^2 and pairs of r(p_m, p_n)^2,
                        r the correlation of two vectors over their D entries
        reconstruction  mean over the present m of mean_d (u_m - (R (s_m + p_m) + c))^2

    An absent modality enters the transformer as its learned absent vector, and no loss.

    Deviations: MISA compares moments over the batch (CMD) and makes the matrices of a batch
    orthogonal, so that a sample's loss depends on the others of its replica; here each sample
    has its own, whatever the batch. Vectors that are equal in every sample have equal moments;
    the converse does not hold, so similarity asks for more than CMD. MISA sums the parts of the
    difference, here it is their mean. The losses do not know of sample weights.

    When to use it: two or three modalities that partly tell the same, on small data.

    Cost, beyond the projections of `Fusion`: (3 M + 10) D^2 + O(M D) weights; per sample
    42 M D^2 + 16 M^2 D + O(M T D) floating-point operations.

    Args:
        similarity, difference, reconstruction: weights of the losses.
        num_heads: of the transformer block (post-norm, MLP of 2 D).

    Returns (see `Fusion`):
        tokens (B, 2 M, D): the block's, private first.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        similarity: float = 1.0,
        difference: float = 0.3,
        reconstruction: float = 1.0,
        num_heads: int = 2,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.similarity = checks.real("similarity", similarity)
        self.difference = checks.real("difference", difference)
        self.reconstruction = checks.real("reconstruction", reconstruction)
        self.num_heads = checks.whole("num_heads", num_heads)

    def build_fusion(self) -> None:
        """Builds the encoders, the decoder and the transformer."""
        dim, policy = self.hidden_dim, self.dtype_policy
        self.norm = keras.layers.LayerNormalization(
            epsilon=1e-6, center=False, scale=False, name="norm", dtype=policy
        )
        self.norm.build((None, dim))
        self.shared = self.dense("shared", dim, activation="sigmoid")
        self.private = {
            m: self.dense(f"{m}_private", dim, activation="sigmoid") for m in self.modalities
        }
        self.decoder = self.dense("decoder", dim)
        self.decoder.trainable = self.reconstruction > 0.0  # by that loss alone
        self.block = TransformerBlock(
            self.num_heads,
            2 * dim,
            dropout=self.dropout,
            normalize_first=False,
            name="block",
            dtype=policy,
        )
        self.block.build((None, None, dim))
        self.out = self.dense("out", 2 * len(self.modalities) * dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Splits, adds the losses, and lets all vectors attend to each other."""
        count = len(self.modalities)
        u = ops.stack([self.norm(masked_mean(tokens[m], masks[m])) for m in self.modalities], 1)
        shared = self.shared(u)  # (B, M, D)
        private = ops.stack([self.private[m](u[:, i]) for i, m in enumerate(self.modalities)], 1)
        self._add_losses(u, shared, private, present)
        x = ops.concatenate([private, shared], axis=1)
        mask = ops.ones_like(ops.concatenate([present, present], axis=1))
        x = self.block(x, mask, training=training)
        flat = ops.reshape(x, (-1, 2 * count * self.hidden_dim))
        return {"tokens": x, "mask": mask, "pooled": self.out(self.drop(flat, training=training))}

    def _add_losses(self, u: Any, shared: Any, private: Any, present: Any) -> None:
        found = self.decoder(shared + private)
        u, shared, private, found = (ops.cast(x, "float32") for x in (u, shared, private, found))
        one = ops.cast(present, "float32")  # (B, M)
        m, n = np.triu_indices(len(self.modalities), 1)  # all pairs
        both = ops.take(one, m, axis=1) * ops.take(one, n, axis=1)  # (B, pairs)
        apart = ops.take(shared, m, axis=1) - ops.take(shared, n, axis=1)
        left = ops.concatenate([shared, ops.take(private, m, axis=1)], axis=1)
        right = ops.concatenate([private, ops.take(private, n, axis=1)], axis=1)
        alike = correlation(left, right) ** 2
        wrong = ops.mean((u - found) ** 2, axis=-1)
        for weight, values, there in (
            (self.similarity, ops.mean(apart**2, axis=-1), both),
            (self.difference, alike, ops.concatenate([one, both], axis=1)),
            (self.reconstruction, wrong, one),
        ):
            if weight and values.shape[1]:
                total = ops.sum(values * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1.0)
                self.add_loss(weight * ops.mean(total))

    def output_length(self, lengths: dict[str, int]) -> int:
        """A private and a shared vector per modality."""
        return 2 * len(self.modalities)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "similarity": self.similarity,
            "difference": self.difference,
            "reconstruction": self.reconstruction,
            "num_heads": self.num_heads,
        }


def correlation(a: Any, b: Any) -> Any:
    """Correlation over the last axis; near zero where one of the two is constant."""
    a = a - ops.mean(a, axis=-1, keepdims=True)
    b = b - ops.mean(b, axis=-1, keepdims=True)
    size = ops.sum(a**2, axis=-1) * ops.sum(b**2, axis=-1)
    return ops.sum(a * b, axis=-1) / ops.sqrt(size + 1e-8)
