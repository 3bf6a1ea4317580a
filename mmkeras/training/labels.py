"""Rows without a label: they change neither a loss nor a metric of the head that they lack it for.

The truth of a batch may hold a bool mask (B,) beside an output's truth, as NAME_mask (see
`mk.Label(optional=True)`). With n rows in the global batch, of which c have the label, a row that
has it gets the weight n / c and another 0, so that the loss of the head is the mean over the rows
that have it, on any number of replicas and micro-batches; it is zero where none has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from mmkeras.layers.masking import zero_masked


def names(y: Any, outputs: Sequence[str]) -> dict[str, str]:
    """Returns output -> name of its mask in the truth, of the outputs that have one."""
    if not isinstance(y, Mapping):
        return {}
    return {o: f"{o}_mask" for o in outputs if f"{o}_mask" in y and f"{o}_mask" not in outputs}


def split(y: Any, outputs: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """Returns the truth alone, zero where a row has none, and output -> mask."""
    found = names(y, outputs)
    if not found:
        return y, {}
    masks = {output: tf.cast(y[mask], tf.bool) for output, mask in found.items()}
    truth = {name: value for name, value in y.items() if name not in found.values()}
    return {**truth, **{o: zero_masked(truth[o], mask) for o, mask in masks.items()}}, masks


def check(y: Any, outputs: Sequence[str], objectives: Sequence[str]) -> None:
    """Raises where an objective would be given rows without a label."""
    for output in names(y, outputs):
        if output in objectives:
            raise ValueError(
                "An objective compares all rows of a batch, and takes labels of all or of none. "
                f"Received: {output!r} with a mask {output}_mask. Leave the target out."
            )


def weighted(
    batch: tuple, rows: Any, outputs: Sequence[str], objectives: Sequence[str] = ()
) -> tuple[tuple, dict[str, Any]]:
    """The batch of a replica with weights for the rows that have labels.

    Args:
        batch: `(x, y, weights)`.
        rows: the real ones of it.
        outputs: that may have a loss of rows.
        objectives: whose sample weights stay what they are; of a plain tensor, those of the only
            one.

    Returns:
        The batch, whose truth holds no masks, and output -> factor that makes a mean over all the
        rows here, with these weights, one over those that have the label; of the outputs with a
        mask.
    """
    x, y, given = batch
    y, masks = split(y, outputs)
    if not masks:
        return batch, {}
    rows = tf.cast(rows, tf.float32)
    mine = [tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in masks.values()]
    whole, context = tf.stack([*mine, rows]), tf.distribute.get_replica_context()
    if context is not None:  # as where one replica's batch is measured in the strategy's scope
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, whole)
    factors, weights = {}, {}
    if isinstance(given, Mapping):
        weights = dict(given)
    elif given is not None and len(objectives) == 1:
        weights[objectives[0]] = given
    for output in (name for name in outputs if name in y):
        own = given.get(output) if isinstance(given, Mapping) else given
        weights[output] = tf.ones(tf.shape(y[output])[:1]) if own is None else own
    for i, (output, mask) in enumerate(masks.items()):
        share = tf.math.divide_no_nan(whole[-1], whole[i])
        held = tf.cast(weights[output], tf.float32)
        weights[output] = share * zero_masked(tf.reshape(held, [-1]), mask)
        factors[output] = tf.math.divide_no_nan(rows, mine[i] * share)
    return (x, y, weights), factors


def without(y: Any, predictions: Any, weights: Any, outputs: Sequence[str]) -> tuple:
    """Truth, predictions and sample weights of the rows that have labels, by output."""
    y, masks = split(y, outputs)
    if not masks:
        return y, predictions, weights
    if weights is not None and not isinstance(weights, Mapping):
        weights = dict.fromkeys(predictions, weights)

    def there(tree: Any) -> Any:
        return tree and {
            name: tf.boolean_mask(value, masks[name]) if name in masks else value
            for name, value in tree.items()
        }

    return there(y), there(predictions), there(weights)
