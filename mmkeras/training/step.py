"""Pieces of the training step that know nothing of `fit`: rows, micro-batches, seeds, reports."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.training import private

SEED_STRIDE = 1_000_003


def synchronizing(model: keras.Model) -> list[str]:
    """Returns the names of layers that need all replicas in their forward pass."""
    return [la.name for la in private.flatten_layers(model) if getattr(la, "synchronized", False)]


def without_empty(batch: Any) -> tuple[Any, Any]:
    """Returns the batch with at least one row (of zeros), and its real number of rows.

    The last batch of a dataset may leave a replica without any, on which fused kernels fail.
    """
    leaves = tf.nest.flatten(batch[0])
    if leaves[0].shape[0] is not None:
        return batch, leaves[0].shape[0]
    rows = tf.shape(leaves[0])[0]
    missing = tf.maximum(1 - rows, 0)

    def pad(tensor: Any) -> Any:
        if tensor is None:
            return None
        return tf.pad(tensor, [[0, missing]] + [[0, 0]] * (len(tensor.shape) - 1))

    return tf.nest.map_structure(pad, batch), rows


def weighted_by_rows(gradients: list, rows: Any, context: Any) -> list:
    """Weights the mean over a replica's rows by their share, where shares may be uneven."""
    if isinstance(rows, int):
        return gradients
    rows = tf.cast(rows, tf.float32)
    total = context.all_reduce(tf.distribute.ReduceOp.SUM, rows)
    share = rows * context.num_replicas_in_sync / total
    return [tf.math.multiply_no_nan(g, tf.cast(share, g.dtype)) for g in gradients]


def accumulated(gradient: Callable, batch: tuple, count: int) -> tuple:
    """Means of losses and gradients over `count` micro-batches, one after the other.

    Returns:
        Losses, predictions of the whole batch in its order, gradients.
    """
    if count == 1:
        return gradient(*batch)
    rows = tf.nest.flatten(batch[0])[0].shape[0]
    rows = tf.shape(tf.nest.flatten(batch[0])[0])[0] if rows is None else rows
    size = rows // count
    even = tf.debugging.assert_equal(
        size * count,
        rows,
        f"A replica's batch must divide evenly by accumulate_steps={count}. Choose another size.",
    )

    def part(i: Any) -> tuple:
        def cut(tensor: Any) -> Any:
            if tensor is None:
                return None
            shape = [size if isinstance(rows, int) else None, *tensor.shape[1:]]
            return tf.ensure_shape(tensor[i * size : (i + 1) * size], shape)

        return gradient(*(tf.nest.map_structure(cut, element) for element in batch))

    with tf.control_dependencies([] if even is None else [even]):
        loss, predictions, sums = part(0)
    leaves = tf.nest.flatten(predictions)
    held = [
        tf.TensorArray(leaf.dtype, count, element_shape=leaf.shape).write(0, leaf)
        for leaf in leaves
    ]

    def body(i: Any, loss: Any, sums: list, held: list) -> tuple:
        more, predicted, gradients = part(i)
        arrays = [a.write(i, p) for a, p in zip(held, tf.nest.flatten(predicted), strict=True)]
        return i + 1, loss + more, [a + b for a, b in zip(sums, gradients, strict=True)], arrays

    _, loss, sums, held = tf.while_loop(
        lambda i, *_: i < count, body, (1, loss, sums, held), parallel_iterations=1
    )
    joined = [array.concat() for array in held]
    return (
        loss / count,
        tf.nest.pack_sequence_as(predictions, joined),
        [g / tf.cast(count, g.dtype) for g in sums],
    )


def spread_seeds(model: keras.Model) -> None:
    """Lets every replica draw random numbers of its own.

    Keras mirrors the state of its seed generators, so that all replicas would drop the same units.
    Here replica r draws from the counter of the first one plus r * 1,000,003.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return
    states = [v for v in model.non_trainable_variables if private.is_seed_state(v)]
    first = [np.asarray(strategy.experimental_local_results(v.value)[0]) for v in states]

    def spread() -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state, value in zip(states, first, strict=True):
            offset = tf.stack([0, replica * SEED_STRIDE])
            state.value.assign(value + tf.cast(offset, value.dtype))

    tf.function(strategy.run)(spread)


def reported(
    model: keras.Model, guard: Any, data: Any, losses: Any, predictions: Any, gradients: Any
) -> Any:
    """Hands the global batch and what is not finite to the guard, on the host."""
    strategy = model.distribute_strategy
    x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
    named = {}
    for kind, tree in (("x", x), ("y", y), ("prediction", predictions)):
        for path, leaf in _named(tree):
            parts = strategy.experimental_local_results(leaf)
            named[f"{kind}/{path}" if path else kind] = tf.concat(parts, axis=0)
    total = tf.add_n([part[0] for part in strategy.experimental_local_results(losses)])
    finite = tf.stack(
        [
            tf.reduce_all(tf.math.is_finite(strategy.experimental_local_results(g)[0]))
            for g in gradients
        ]
    )
    paths = [v.path for v in model.trainable_variables]

    def write(iteration: Any, total: Any, finite: Any, *values: Any) -> Any:
        batch = dict(zip(named, values, strict=True))
        gradients = dict(zip(paths, finite.tolist(), strict=True))
        guard.report(int(iteration), float(total), batch, gradients)
        return np.int32(0)

    iteration = model.optimizer.iterations.value
    return tf.numpy_function(
        write, [tf.convert_to_tensor(iteration), total, finite, *named.values()], tf.int32
    )


def _named(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [(str(name), leaf) for name, leaf in tree.items() if leaf is not None]
    leaves = [leaf for leaf in tf.nest.flatten(tree) if leaf is not None]
    return [(str(i) if len(leaves) > 1 else "", leaf) for i, leaf in enumerate(leaves)]
