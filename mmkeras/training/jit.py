"""Whether XLA pays: a few steps of the real model on real data, both ways."""

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

MIN_STEPS = 200
"""Shorter runs than this are not measured: compiling costs more than it could save."""
ROUNDS, GAIN = 5, 0.97


def choose(
    strategy: tf.distribute.Strategy, variables: list, ways: dict[bool, Callable], batch: Any
) -> tuple[bool, str]:
    """Times the gradient of a batch without and with XLA, in turns, and says which to take.

    XLA is taken when its fastest of 5 rounds is at least 3 % below the other's; the first call of
    each, which traces and compiles, does not count. What the steps change is put back.

    Args:
        strategy: of the model; every replica gets the batch.
        variables: Keras variables that a step changes: statistics and seeds.
        ways: jit -> function of one replica's batch.
        batch: `(x, y, weights)` of one replica.

    Returns:
        The choice, and a sentence with the measured times.
    """
    kept = [v.numpy() for v in variables]
    runs = {
        jit: tf.function(lambda *b, step=step: strategy.run(step, b)) for jit, step in ways.items()
    }
    seconds: dict[bool, list[float]] = {False: [], True: []}
    first = {}
    try:
        for jit, run in runs.items():
            first[jit] = _seconds(run, batch)
        for _ in range(ROUNDS):
            for jit, run in runs.items():
                seconds[jit].append(_seconds(run, batch))
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        if False not in first:
            raise
        return False, f"XLA cannot compile this model: {str(error).strip().splitlines()[0]}"
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
    plain, compiled = (1000 * min(seconds[jit]) for jit in (False, True))
    chosen = compiled < GAIN * plain
    return chosen, (
        f"forward and backward take {plain:.1f} ms without and {compiled:.1f} ms with XLA (first "
        f"call {first[False]:.1f} s and {first[True]:.1f} s)"
    )


def _seconds(run: Callable, batch: Any) -> float:
    start = time.perf_counter()
    for leaf in tf.nest.flatten(run(*batch)):
        if isinstance(leaf, tf.distribute.DistributedValues):
            leaf = leaf.values[0]
        np.asarray(leaf).ravel()[:1]
        break
    return time.perf_counter() - start


def example(x: Any, batch_size: int | None, parts: int) -> Any:
    """Returns `(x, y, weights)` of a first batch's part for one replica and micro-batch, or None.

    Args:
        x: of `fit`.
        batch_size: of `fit`, where `x` is no dataset.
        parts: replicas times micro-batches.
    """
    if isinstance(x, tf.data.Dataset):
        batch = next(iter(getattr(x, "stream", lambda: x)().take(1)))
        rows = tf.nest.flatten(batch)[0].shape[0]
    elif isinstance(x, tuple) and all(hasattr(a, "shape") for a in keras.tree.flatten(x)):
        batch, rows = x, batch_size or 32
    else:
        return None
    part = max(rows // parts, 1)
    batch = tf.nest.map_structure(lambda t: tf.convert_to_tensor(t[:part]), batch)
    return keras.utils.unpack_x_y_sample_weight(batch)
