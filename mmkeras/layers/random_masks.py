"""Random choices among the real positions of a sequence, for masked modelling.

Training draws anew at every step, from seeds that a checkpoint keeps, so that a resumed run draws
what an uninterrupted one does. Outside of training the numbers are always the same, on any backend,
compiled or not, and whatever rows stand beside a row, so that an evaluation can be repeated in
other batches and on other replicas.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import zero_masked

PRIME = 46337  # the square of what is below it fits int32, and cubes are all different


def choose(mask: Any, rate: float, drawn: Any) -> Any:
    """Chooses floor(rate n + 1/2) of a row's n real positions, at least one where there is any.

    Args:
        mask: bool (B, T).
        rate: share of the real positions.
        drawn: float32 (B, T) in [0, 1); the positions with the smallest numbers are chosen.

    Returns:
        Bool (B, T), false wherever the mask is.
    """
    real = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
    count = ops.maximum(ops.floor(rate * real + 0.5), ops.minimum(real, 1.0))
    return mask & (ops.cast(_rank(mask, drawn), "float32") < count)


def _rank(mask: Any, drawn: Any) -> Any:
    """Place of each position by its number, those behind the mask last."""
    order = ops.argsort(ops.where(mask, drawn, drawn + 1.0), axis=1)
    return ops.argsort(order, axis=1)


def scattered(rows: Any, length: int, number: int) -> Any:
    """Returns float32 (R, length) in [0, 1) without chance, in whole numbers up to the end.

    Random numbers would not do: a seed gives others where a step is compiled (XLA) than where not.

    Args:
        rows: int32 (R,), below `PRIME`; rows of the same number get the same.
        length: numbers of a row.
        number: tells the draws of a call apart.
    """
    place = rows[:, None] * length + ops.arange(length, dtype="int32")
    x = (place + 7919 * (number + 1)) % PRIME
    for _ in range(2):
        x = ((x * x % PRIME) * x + 12345) % PRIME
    return ops.cast(x, "float32") / PRIME


class RandomLayer(keras.layers.Layer):
    """A layer that draws; a base.

    Args:
        seed: of the draws in training; None for one from the global seed.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        """Makes the generator, whose state is saved with the training."""
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def draw(self, shape: tuple, training: bool, number: int = 0, rows: Any = None) -> Any:
        """Returns float32 (R, length) in [0, 1); `number` tells the draws of a call apart.

        Outside of training they are `scattered` by `rows`: the same in every row when None.
        """
        if not training:
            rows = ops.zeros(shape[:1], "int32") if rows is None else rows
            return scattered(rows, shape[1], number)
        return keras.random.uniform(shape, seed=self.generator, dtype="float32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


@register
class MaskTokens(RandomLayer):
    """Corrupts token ids as BERT does (Devlin et al. 2019, 3.1).

    Of the real tokens that are not `special`, `choose` takes a share of `rate`. Of those, each by
    itself, 80 % become the mask token, 10 % a random ordinary token, and 10 % stay.

    Args:
        vocabulary_size: number of tokens.
        mask_id: id of the mask token.
        special: ids that are never chosen and never put in.
        rate: share of the tokens, above 0, at most 1.
        seed: see `RandomLayer`.

    Call arguments:
        ids: int (B, L).
        mask: bool (B, L).

    Returns:
        `(ids, chosen)`: int32 (B, L), 0 behind the mask, and bool (B, L).
    """

    def __init__(
        self,
        vocabulary_size: int,
        mask_id: int,
        special: Sequence[int] = (0,),
        *,
        rate: float = 0.15,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(**{"autocast": False, **kwargs})
        self.vocabulary_size = checks.whole("vocabulary_size", vocabulary_size)
        self.mask_id = checks.whole("mask_id", mask_id, 0)
        self.special = tuple(sorted({*(int(i) for i in special), self.mask_id}))
        self.rate = positive_rate(rate)
        if len(self.special) >= self.vocabulary_size:
            raise ValueError(
                "A text needs tokens beside the special ones. Received: a vocabulary of "
                f"{vocabulary_size} with the special ids {self.special}. Take more texts."
            )

    def call(self, ids: Any, mask: Any, training: bool = False) -> tuple[Any, Any]:
        """Returns the corrupted ids and where the loss is taken."""
        ids = zero_masked(ops.cast(ids, "int32"), mask)
        shape = (ops.shape(ids)[0], ids.shape[1])
        ordinary = mask
        for i in self.special:
            ordinary = ordinary & (ids != i)
        # Words stand at places of their own, so that each text hides others.
        place = ops.arange(1, shape[1] + 1, dtype="int32")
        text = ops.cast(ops.sum(ids * place % PRIME, axis=1), "int32") % PRIME
        share, kind, other = (self.draw(shape, training, i, text) for i in range(3))
        chosen = choose(ordinary, self.rate, share)
        others = self.vocabulary_size - len(self.special)
        drawn = ops.cast(ops.floor(other * others), "int32")
        drawn = ops.minimum(drawn, others - 1)
        for i in self.special:  # ascending: the n-th id that is not special
            drawn = drawn + ops.cast(drawn >= i, "int32")
        new = ops.where(kind < 0.8, self.mask_id, ops.where(kind < 0.9, drawn, ids))
        return ops.where(chosen, new, ids), chosen

    def compute_output_spec(self, ids: Any, mask: Any, training: bool = False) -> tuple:
        """Both (B, L)."""
        return keras.KerasTensor(ids.shape, "int32"), keras.KerasTensor(ids.shape, "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        own = {name: getattr(self, name) for name in ("vocabulary_size", "mask_id", "rate")}
        return {**super().get_config(), **own, "special": list(self.special)}


@register
class KeepTokens(RandomLayer):
    """Keeps a fixed number of random tokens, real ones first.

    Args:
        keep: tokens that stay, K.
        seed: see `RandomLayer`.

    Call arguments:
        tokens: (B, T, D), T at least K.
        mask: bool (B, T).

    Returns:
        `(tokens, mask, hidden)`: (B, K, D) in a random order, bool (B, K), and bool (B, T), true
        at the real tokens that were left out.
    """

    def __init__(self, keep: int, **kwargs: Any) -> None:
        """Stores the number."""
        super().__init__(**kwargs)
        self.keep = checks.whole("keep", keep)

    def call(self, tokens: Any, mask: Any, training: bool = False) -> tuple[Any, Any, Any]:
        """Returns what is kept, and what is not."""
        drawn = self.draw((ops.shape(tokens)[0], tokens.shape[1]), training)
        rank = _rank(mask, drawn)
        kept = ops.argsort(rank, axis=1)[:, : self.keep]
        tokens = ops.take_along_axis(tokens, kept[:, :, None], axis=1)
        here = ops.take_along_axis(mask, kept, axis=1)
        return tokens, here, mask & (rank >= self.keep)

    def compute_output_spec(self, tokens: Any, mask: Any, training: bool = False) -> tuple:
        """(B, K, D), (B, K), (B, T)."""
        batch, _, width = tokens.shape
        return (
            keras.KerasTensor((batch, self.keep, width), self.compute_dtype),
            keras.KerasTensor((batch, self.keep), "bool"),
            keras.KerasTensor(mask.shape, "bool"),
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "keep": self.keep}


@register
class HideSpans(RandomLayer):
    """Hides spans of a sequence behind its mask, where no encoder can see them.

    The sequence is cut into spans of `size`; of those with a real position, `choose` takes a share
    of `rate`.

    Args:
        size: positions of a span.
        rate: share of the spans, above 0, at most 1.
        seed: see `RandomLayer`.

    Call arguments:
        mask: bool (B, T).

    Returns:
        `(mask, hidden)`: bool (B, T), and bool (B, ceil(T / size)), true at the hidden spans.
    """

    def __init__(self, size: int, *, rate: float = 0.5, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(**{"autocast": False, **kwargs})
        self.size = checks.whole("size", size)
        self.rate = positive_rate(rate)

    def call(self, mask: Any, training: bool = False) -> tuple[Any, Any]:
        """Returns the mask with holes, and the holes."""
        length, count = mask.shape[1], -(-mask.shape[1] // self.size)
        padded = ops.pad(mask, ((0, 0), (0, count * self.size - length)))
        real = ops.any(ops.reshape(padded, (-1, count, self.size)), axis=2)
        hidden = choose(real, self.rate, self.draw((ops.shape(mask)[0], count), training))
        return mask & ~ops.repeat(hidden, self.size, axis=1)[:, :length], hidden

    def compute_output_spec(self, mask: Any, training: bool = False) -> tuple:
        """(B, T) and (B, ceil(T / size))."""
        batch, length = mask.shape
        spans = keras.KerasTensor((batch, -(-length // self.size)), "bool")
        return keras.KerasTensor(mask.shape, "bool"), spans

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "size": self.size, "rate": self.rate}


def positive_rate(rate: Any) -> float:
    """Returns the rate, or raises: above 0, at most 1."""
    rate = checks.real("rate", rate, 0.0, 1.0)
    if rate == 0.0:
        raise ValueError("`rate` must be above 0, or there is nothing to predict. Received: 0.")
    return rate
