"""Tensor fusion: the outer product of all modalities."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion

COMFORTABLE = 2**12
"""Entries of the outer product that the default width keeps to."""

LARGEST = 2**17
"""Entries beyond which `TensorFusion` refuses: half a megabyte a sample."""


@register
class TensorFusion(VectorFusion):
    """pooled = W_2 relu(W_1 vec([1; z_1] (x) ... (x) [1; z_M]) + b_1) + b_2.

    The tensor fusion network (TFN, Zadeh et al. 2017, arXiv 1707.07250) with one hidden layer in
    its inference network instead of two; (x) is the outer product, z_m = tanh(A_m x_m + a_m) and
    x_m the masked mean. Thanks to the ones it holds every product of every subset of modalities.
    Deviations: any number of modalities M >= 1 (three in the paper), and A_m, in place of the last
    layer of the paper's embedding networks: its width `tensor_dim` bounds the outer product, which
    has (tensor_dim + 1)^M entries, and tanh instead of ReLU its values, which float16 then holds.
    An absent modality enters as its learned absent vector; the ones keep all products without it,
    so nothing is killed. The outer product is computed in float32.

    With t = tensor_dim and P = (t + 1)^M: weights M (D + 1) t + (P + 1) D + (D + 1) D, FLOPs
    2 M D t + 2 P + 2 P D + 2 D^2, memory 4 P bytes per sample. For two or three modalities whose
    joint values matter; for more, `low_rank` computes the same family at a cost linear in M.

    Args:
        tensor_dim: t; when None the largest, up to D, of at most 4096 entries.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self, modalities: Sequence[str], *, tensor_dim: int | None = None, **kwargs: Any
    ) -> None:
        """Stores the width; raises ValueError for a product of more than `LARGEST` entries."""
        super().__init__(modalities, **kwargs)
        count = len(self.modalities)
        if tensor_dim is None:
            tensor_dim = max(1, min(self.hidden_dim, widest(COMFORTABLE, count)))
        self.tensor_dim = checks.whole("tensor_dim", tensor_dim)
        size = (self.tensor_dim + 1) ** count
        if size > LARGEST:
            fits = widest(LARGEST, count)
            way = f"`tensor_dim` of at most {fits}, or " if fits else ""
            raise ValueError(
                f"The outer product of {count} modalities has (tensor_dim + 1)^{count} entries, at "
                f"most {LARGEST}. Received: tensor_dim={self.tensor_dim}, that is {size}. Use "
                f"{way}the fusion 'low_rank'."
            )

    def build_fusion(self) -> None:
        """Builds the narrowing maps and the two layers."""
        self.narrow = {
            m: self.dense(f"{m}_narrow", self.hidden_dim, self.tensor_dim, activation="tanh")
            for m in self.modalities
        }
        size = (self.tensor_dim + 1) ** len(self.modalities)
        self.hidden = self.dense("hidden", size, activation="relu")
        self.out = self.dense("out", self.hidden_dim)

    def join(self, vectors: list, training: bool) -> Any:
        """Multiplies and maps."""
        whole = None
        for m, x in zip(self.modalities, vectors, strict=True):
            z = ops.cast(self.narrow[m](x), "float32")
            z = ops.concatenate([ops.ones_like(z[:, :1]), z], axis=1)  # (B, t + 1)
            if whole is not None:
                size = whole.shape[-1] * z.shape[-1]
                z = ops.reshape(whole[:, :, None] * z[:, None, :], (-1, size))
            whole = z
        return self.out(self.drop(self.hidden(whole), training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "tensor_dim": self.tensor_dim}


def widest(entries: int, count: int) -> int:
    """Returns the largest t with (t + 1)^count <= entries."""
    return max(t for t in range(entries) if (t + 1) ** count <= entries)
