"""What a model costs: operations, milliseconds of a step and of an answer."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def forward_flops(model: keras.Model, rows: int, *, unroll: bool = False) -> float:
    """Returns the floating-point operations of a forward pass, as TensorFlow counts its graph.

    Matrix products, convolutions and element-wise operations count, a multiplication and an
    addition as two; Fourier transforms do not. Sequences have their declared length.

    Args:
        model: Functional.
        rows: samples in the batch.
        unroll: counts every turn of a recurrent layer, for a longer trace; a loop counts as one.
    """
    specs = tf.nest.map_structure(
        lambda t: tf.TensorSpec((rows, *(d or 1 for d in t.shape[1:])), t.dtype), model.input
    )
    recurrent = [part for part in model._flatten_layers() if isinstance(part, keras.layers.RNN)]
    before = [part.unroll for part in recurrent]
    for part in recurrent:
        part.unroll = part.unroll or unroll
    try:
        graph = forward(model).get_concrete_function(specs).graph
    finally:
        for part, held in zip(recurrent, before, strict=True):
            part.unroll = held
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    with _quiet():
        counted = tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
    return float(counted + sum(map(_einsum_flops, graph.get_operations())))


def _einsum_flops(op: tf.Operation) -> int:
    """Those of an Einsum, which TensorFlow does not count; 0 of any other operation."""
    if op.type != "Einsum":
        return 0
    labels = op.get_attr("equation").decode().split("->")[0].split(",")
    axes = {
        label: size
        for part, tensor in zip(labels, op.inputs, strict=True)
        for label, size in zip(part, tensor.shape, strict=True)
    }
    return 2 * math.prod(axes.values())


def forward(model: keras.Model) -> tf.types.experimental.PolymorphicFunction:
    """Returns the forward pass as a function of a batch, without XLA."""
    return tf.function(lambda x: model(x, training=False), autograph=False)


def latency_ms(model: keras.Model, batch: Any, rounds: int = 20) -> float:
    """Returns the median milliseconds of a forward pass over a whole batch."""
    run = forward(model)
    return median_ms(lambda: [t.numpy() for t in tf.nest.flatten(run(batch))], rounds)


def step_ms(model: keras.Model, batch: Any, rounds: int = 10) -> float:
    """Returns the median milliseconds of a training step on a batch that is there; it trains.

    Args:
        model: a `mmkeras.Model` that `fit` has trained.
        batch: `(x, y)`.
        rounds: steps that are measured, after two that are not.
    """
    step = model.make_train_function()
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    return median_ms(lambda: [float(t) for t in tf.nest.flatten(step(batches))], rounds)


def median_ms(work: Callable[[], Any], rounds: int) -> float:
    """Returns the median milliseconds of some work, after two rounds that do not count."""
    seconds = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        work()
        if number > 1:
            seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without TensorFlow's note that its counter is of version 1."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)
