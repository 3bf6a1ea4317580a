"""Multimodal compact bilinear pooling."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from mmkeras.core import checks, register
from mmkeras.fusion.vectors import VectorFusion, power_norm, unit_scale


@register
class CompactBilinearFusion(VectorFusion):
    """pooled = W norm(s_1 (*) ... (*) s_M) + b, s_m the count sketch of x_m, (*) circular.

    Multimodal compact bilinear pooling (MCB, Fukui et al. 2016, arXiv 1606.01847): entry i of x_m
    is added, with a random sign, to the random entry hash(i) of s_m, of width N; the circular
    convolution of the sketches is the sketch of the outer product (Pham and Pagh 2013) and is
    computed as the product of their Fourier transforms; norm is `power_norm`: signed square root,
    then l2. x_m is the masked mean. Hashes and signs are drawn from `seed` and are weights that do
    not train, so that they are saved. Deviations: any number of modalities M >= 1 (two in the
    paper), N is 8 D by default as 16000 is to 2048 there, a normalisation with a finite derivative
    at zero, and each x_m scaled to a root mean square of 1, which norm takes out again. An absent
    modality enters as its learned absent vector, which starts near zero: thanks to that scaling it
    is a constant pattern over the others and does not kill their product.
    Sketch, transforms and norm are computed in float32 under every policy.

    Weights (N + 1) D that train and 2 M D that do not, FLOPs 2 M D N + 5 (M + 1) N log2 N +
    6 M N + 2 N D. All second-order terms at few weights: for small data, where learned factors
    overfit.

    Args:
        sketch_dim: N, even; 8 D when None.
        seed: of hashes and signs.

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        sketch_dim: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        sketch_dim = 8 * self.hidden_dim if sketch_dim is None else sketch_dim
        self.sketch_dim = checks.whole("sketch_dim", sketch_dim, 2)
        self.seed = checks.whole("seed", seed, 0)
        if self.sketch_dim % 2:
            raise ValueError(
                "`sketch_dim` must be even, for the real Fourier transform. "
                f"Received: sketch_dim={self.sketch_dim}. Use {self.sketch_dim + 1}."
            )

    def build_fusion(self) -> None:
        """Draws the hashes and signs, builds the way out."""
        rng = np.random.default_rng(self.seed)
        self.hashes, self.signs = {}, {}
        for m in self.modalities:
            hashes = rng.integers(self.sketch_dim, size=self.hidden_dim)
            signs = rng.choice([-1.0, 1.0], size=self.hidden_dim)
            self.hashes[m] = self.constant(f"{m}_hash", hashes, "int32")
            self.signs[m] = self.constant(f"{m}_sign", signs, "float32")
        self.out = self.dense("out", self.sketch_dim)

    def constant(self, name: str, value: np.ndarray, dtype: str) -> Any:
        """Returns a weight of this value that does not train and keeps its dtype."""
        return self.add_weight(
            value.shape,
            lambda shape, dtype: ops.convert_to_tensor(value, dtype),
            dtype=dtype,
            trainable=False,
            autocast=False,
            name=name,
        )

    def join(self, vectors: list, training: bool) -> Any:
        """Sketches, convolves and normalises."""
        real, imaginary = None, None
        for m, x in zip(self.modalities, vectors, strict=True):
            matrix = ops.one_hot(self.hashes[m], self.sketch_dim) * self.signs[m][:, None]
            a, b = ops.rfft(ops.matmul(unit_scale(x), matrix))  # (B, N / 2 + 1) each
            if real is not None:
                a, b = real * a - imaginary * b, real * b + imaginary * a
            real, imaginary = a, b
        z = power_norm(ops.irfft((real, imaginary), self.sketch_dim))
        return self.out(self.drop(z, training=training))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "sketch_dim": self.sketch_dim, "seed": self.seed}
