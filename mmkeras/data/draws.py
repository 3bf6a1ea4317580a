"""Random numbers that are a function of a seed and of a row's place in the global batch alone."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Draws(NamedTuple):
    """Random numbers for the rows of a batch, or of one of several equal parts of it.

    A part gets the very numbers that its rows would get in the whole batch, so that several readers
    augment as one does. They are drawn for all parts, and the own ones kept.

    Attributes:
        seed: uint32 (2,); nothing else is random.
        shard: (i, n), the i-th of n equal parts of the batch.
    """

    seed: Any
    shard: tuple[int, int] = (0, 1)

    def fold(self, first: int = 0, second: int = 0) -> "Draws":
        """Returns other draws: the seed with the two numbers added."""
        return self._replace(seed=self.seed + tf.constant([first, second], tf.uint32))

    def uniform(
        self, rows: Any, *shape: int, low: Any = 0.0, high: Any = 1.0, dtype: Any = tf.float32
    ) -> Any:
        """Returns (rows, *shape), uniform in [low, high)."""
        drawn = tf.random.stateless_uniform(
            (rows * self.shard[1], *shape), self._key, low, high, dtype
        )
        return self._own(drawn, rows)

    def steps(self, rows: Any, count: Any) -> Any:
        """Returns uniform (rows, count); a step's number does not depend on how many there are."""
        drawn = tf.random.stateless_uniform((count, rows * self.shard[1]), self._key)
        return self._own(tf.transpose(drawn), rows)

    def normal(self, rows: Any, *shape: int) -> Any:
        """Returns (rows, *shape), standard normal."""
        return self._own(
            tf.random.stateless_normal((rows * self.shard[1], *shape), self._key), rows
        )

    def beta(self, rows: Any, alpha: float) -> Any:
        """Returns (rows,), from Beta(alpha, alpha)."""
        drawn = tf.random.stateless_gamma((rows * self.shard[1], 2), self._key, alpha)
        drawn = self._own(drawn, rows)
        return tf.math.divide_no_nan(drawn[:, 0], tf.reduce_sum(drawn, axis=1))

    def of_layer(self, layer: keras.layers.Layer, pixels: Any) -> dict:
        """Returns the random transformation of a Keras layer for pictures (B, H, W, C)."""
        rows, parts = tf.shape(pixels)[0], self.shard[1]
        whole = pixels
        if parts > 1:  # of which the layer reads the shape alone
            whole = tf.zeros((rows * parts, *pixels.shape[1:]), pixels.dtype)
        drawn = layer.get_random_transformation(whole, training=True, seed=_PassedSeed(self.seed))
        return {
            name: self._own(value, rows) if tf.is_tensor(value) and value.shape.rank else value
            for name, value in drawn.items()
        }

    @property
    def _key(self) -> Any:
        return tf.cast(self.seed, tf.int32)

    def _own(self, drawn: Any, rows: Any) -> Any:
        part, parts = self.shard
        return drawn if parts == 1 else drawn[part * rows : (part + 1) * rows]


class _PassedSeed(keras.random.SeedGenerator):
    """Lets Keras' random layers draw from a seed tensor instead of a stateful variable."""

    def __new__(cls, seed: Any) -> "_PassedSeed":
        """Skips the base class's tracking, which would make a variable."""
        return object.__new__(cls)

    def __init__(self, seed: Any) -> None:
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "draws", 0)

    def next(self, ordered: bool = True) -> Any:
        """Returns a new seed at every call, a function of the passed one and the count."""
        object.__setattr__(self, "draws", self.draws + 1)
        return self.seed + tf.constant([0, self.draws], tf.uint32)
