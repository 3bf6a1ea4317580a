"""What several fusions do with sequences: learned vectors, joining, pooling by attention."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.layers.masking import zero_masked


def learned(layer: keras.layers.Layer, name: str, *rows: int) -> Any:
    """Returns a weight (*rows, D) of a fusion, drawn from N(0, 0.02^2)."""
    return layer.add_weight(
        shape=(*rows, layer.hidden_dim),
        initializer=keras.initializers.RandomNormal(stddev=0.02),
        name=name,
    )


def repeat(vectors: Any, like: Any) -> Any:
    """Returns `vectors` (1, N, D) once for each sample of `like` (B, T, D), in its dtype."""
    return ops.cast(vectors, like.dtype) + ops.zeros_like(like[:, :1])


def in_front(vectors: Any, tokens: Any, mask: Any) -> tuple[Any, Any]:
    """Puts vectors that are there in every sample before a sequence.

    Args:
        vectors: (1, N, D) or (B, N, D).
        tokens: (B, T, D).
        mask: bool (B, T).

    Returns:
        `(tokens, mask)`: (B, N + T, D) and bool (B, N + T).
    """
    vectors = repeat(vectors, tokens)
    there = ops.ones_like(vectors[:, :, 0], dtype="bool")
    return ops.concatenate([vectors, tokens], axis=1), ops.concatenate([there, mask], axis=1)


def join(tokens: dict, masks: dict, names: Sequence[str], types: Any = None) -> tuple[Any, Any]:
    """Puts the sequences of `names` one behind the other.

    Args:
        tokens: (B, T_m, D) each.
        masks: bool (B, T_m) each.
        names: which, in this order.
        types: (M, D), a vector per name that is added to each of its tokens.

    Returns:
        `(tokens, mask)`: (B, sum T_m, D) and bool (B, sum T_m).
    """
    parts = [tokens[m] for m in names]
    if types is not None:
        parts = [x + ops.cast(types[i], x.dtype) for i, x in enumerate(parts)]
    return ops.concatenate(parts, axis=1), ops.concatenate([masks[m] for m in names], axis=1)


def join_first_in_front(tokens: dict, masks: dict, names: Sequence[str]) -> tuple[Any, Any]:
    """As `join`, but the first tokens of all the sequences, which are always there, come first."""
    first = ops.concatenate([tokens[m][:, :1] for m in names], axis=1)
    rest = {m: tokens[m][:, 1:] for m in names}
    return in_front(first, *join(rest, {m: masks[m][:, 1:] for m in names}, names))


def attend(logits: Any, values: Any, mask: Any) -> Any:
    """Returns sum_t a_t values_t, a = softmax of the logits over the true positions, in float32.

    Args:
        logits: (B, T).
        values: (B, T, D).
        mask: bool (B, T), with a true position in every row.
    """
    weights = ops.softmax(ops.where(mask, ops.cast(logits, "float32"), -1e9), axis=1)
    return ops.sum(ops.cast(weights, values.dtype)[:, :, None] * zero_masked(values, mask), axis=1)


def check_two(what: str, modalities: Sequence[str], instead: str) -> None:
    """Raises unless there are two modalities."""
    if len(modalities) < 2:
        raise ValueError(
            f"{what} needs at least two modalities. Received: {modalities}. With one, use "
            f"'{instead}'."
        )
