"""What the fusions of one vector per modality share: their base, products and normalisation.

Costs in their docstrings are those of one sample, a multiplication and an addition counting two,
without what every fusion does: the projections of `Fusion` (2 D sum_m T_m D_m) and the masked means
(D sum_m T_m). T appears nowhere else: these fusions see no sequence.
"""

import functools
from collections.abc import Iterable
from typing import Any

from keras import ops

from mmkeras.fusion.base import Fusion
from mmkeras.layers import masked_mean

SMALL_ROOT = 1e-2
SMALL_SQUARE = 1e-3


class VectorFusion(Fusion):
    """Base of the fusions that read one vector x_m (B, D) per modality.

    x_m is the masked mean of modality m, or its learned absent vector where it is absent. A
    subclass defines `join(vectors, training)`: the x_m in declared order -> pooled (B, D).

    Returns (see `Fusion`):
        tokens (B, 1, D): pooled, as a sequence of one.
    """

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Pools each modality and joins the vectors."""
        vectors = [masked_mean(tokens[m], masks[m]) for m in self.modalities]
        pooled = self.join(vectors, training)
        return {
            "tokens": pooled[:, None, :],
            "mask": ops.ones_like(present[:, :1]),
            "pooled": pooled,
        }

    def output_length(self, lengths: dict[str, int]) -> int:
        """One token."""
        return 1


def product(factors: Iterable[Any]) -> Any:
    """Returns the elementwise product of all factors, in float32."""
    return functools.reduce(ops.multiply, (ops.cast(f, "float32") for f in factors))


def unit_scale(x: Any) -> Any:
    """Scales the last axis to a root mean square of 1 (0 for zeros): x / sqrt(mean x^2 + 1e-3).

    In float32. In front of a product that `power_norm` follows it changes nothing but what the
    small constants of the two see, as that one takes out every factor's scale: no factor that is
    small, as that of an absent modality at first, brings the product down to these constants.
    """
    x = ops.cast(x, "float32")
    return x / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + SMALL_SQUARE)


def sum_pool(x: Any, size: int) -> Any:
    """Sums each `size` neighbours of the last axis: (B, size * N) -> (B, N)."""
    return ops.sum(ops.reshape(x, (-1, x.shape[-1] // size, size)), axis=-1)


def power_norm(x: Any) -> Any:
    """Power and l2 normalisation over the last axis, in float32.

    y = x / (x^2 + 1e-4)^(1/4), which is sign(x) sqrt(|x|) within 1 % from |x| = 0.05 on, then
    y / sqrt(sum y^2 + 1e-3). The derivative of a signed root is infinite at zero, where dropout, a
    sketch or an absent modality put entries; here it is 10 there, and that of the division 32.
    """
    x = ops.cast(x, "float32")
    x = x / ops.sqrt(ops.sqrt(ops.square(x) + SMALL_ROOT**2))
    return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + SMALL_SQUARE)
