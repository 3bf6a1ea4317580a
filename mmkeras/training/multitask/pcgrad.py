"""PCGrad: where two tasks' gradients conflict, each loses what points against the other."""

from typing import Any

import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training.multitask.method import TaskWeights


@register
class PCGrad(TaskWeights):
    """Projected gradients of the shared weights, summed.

    Yu et al. 2020 (arXiv 2001.06782), Algorithm 1: for every task i, g_i loses its component along
    g_j for every other j, in a random order, where their inner product is negative. g_k is the
    gradient of the task's weighted loss with respect to all weights that no single head owns, of
    the global batch; the weights of a head, and what regularisers and objectives add, are left as
    they are. A step costs a backward pass per task beside that of the sum.

    Args:
        seed: of the orders, with the number of the step.
    """

    apart = True

    def __init__(self, *, seed: int = 0) -> None:
        """Stores the argument."""
        super().__init__("all")
        self.seed = checks.whole("seed", seed, 0)

    def coefficients(self, gram: Any, seed: Any) -> Any:
        """Returns the sums over i of the coefficients of g_j in the projected g_i."""
        count = gram.shape[0]
        seed = seed + tf.constant([self.seed * 1_000_003, 0], tf.int64)
        chance = tf.random.stateless_uniform((count, count), seed)
        return projected(gram, tf.argsort(chance, axis=1))

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"seed": self.seed}


def projected(gram: Any, orders: Any) -> Any:
    """Returns (K,) the coefficients of the gradients in the sum of the projected ones.

    All that the projections need are inner products: g_i' = sum_k c_k g_k has that of
    sum_k c_k G_kj with g_j, and subtracting it over G_jj changes c_j alone.

    Args:
        gram: (K, K).
        orders: int (K, K), row i the order in which task i meets all (itself it leaves alone).
    """
    count = gram.shape[0]
    total = tf.zeros([count], gram.dtype)
    for i in range(count):
        own = tf.one_hot(i, count, dtype=gram.dtype)
        for step in range(count):
            j = orders[i, step]
            inner = tf.reduce_sum(own * gram[:, j])
            against = tf.where(j == i, tf.zeros_like(inner), tf.minimum(inner, 0.0))
            share = tf.math.divide_no_nan(against, gram[j, j])
            own -= share * tf.one_hot(j, count, dtype=gram.dtype)
        total += own
    return total
