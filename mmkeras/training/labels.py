"""Rows without a label: they change neither a loss nor a metric of the head that they lack it for.

The truth of a batch may hold a bool mask (B,) beside an output's truth, as NAME_mask (see
`mk.Label(optional=True)`). With n rows in the global batch, of which c have the label, a row that
has it gets the weight n / c and another 0, so that the loss of the head is the mean over the rows
that have it, on any number of replicas and micro-batches; it is zero where none has.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from mmkeras.layers.masking import zero_masked
from mmkeras.objectives import Objective
from mmkeras.training import private


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


def check(y: Any, objectives: Mapping[str, Objective]) -> None:
    """Raises where an objective that needs all labels would be given rows without one."""
    for output in names(y, list(objectives)):
        if objectives[output].no_label is None:
            raise ValueError(
                f"{type(objectives[output]).__name__} takes labels of all rows or of none. "
                f"Received: {output!r} with a mask {output}_mask. Leave the target out."
            )


def filled(batch: Any, objectives: Mapping[str, Objective]) -> tuple:
    """`(x, y, weights)` of a batch, its truth without the masks of objectives.

    Where a mask is false, the truth is the objective's `no_label`.
    """
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    found = names(y, list(objectives))
    if not found:
        return x, y, weights
    truth = {name: value for name, value in y.items() if name not in found.values()}
    for output, mask in found.items():
        value = tf.convert_to_tensor(truth[output])
        if value.dtype.is_integer and value.dtype != tf.int32:  # unsigned ones have no -1
            value = tf.cast(value, tf.int64)
        none = tf.constant(objectives[output].no_label, value.dtype)
        truth[output] = tf.where(tf.cast(y[mask], tf.bool), value, none)
    return x, truth, weights


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


class Total:
    """The loss of an evaluation with missing labels: the sum of the means that the heads log.

    The mean of the batches' losses is another number, in which a batch with few labels counts as
    much as one with many, so that it changes with the size of the batches.

    Args:
        model: that is being compiled.
        loss, loss_weights: as in Keras.
    """

    def __init__(self, model: keras.Model, loss: Any, loss_weights: Any) -> None:
        names, self.model = model.output_names, model
        if isinstance(loss_weights, list | tuple):
            loss_weights = dict(zip(names, loss_weights, strict=True))
        self.given = loss_weights if isinstance(loss_weights, Mapping) else {}
        self.names = [n for n in names if not isinstance(loss, Mapping) or loss.get(n) is not None]
        self.rest, self.only = (keras.metrics.Mean(name=name) for name in ("rest", "only"))

    def update(self, loss: Any, rest: Any, rows: Any, factors: Mapping, masks: Mapping) -> None:
        """Adds a replica's part of a batch.

        Args:
            loss: mean over the rows, of all there is.
            rest: what of it is no head's.
            rows: how many.
            factors: see `weighted`.
            masks: by output.
        """
        there = rows > 0
        self.rest.update_state(tf.where(there, rest, 0.0), sample_weight=rows)
        if not private.head_metrics(self.model):  # Keras logs no loss of an only head
            (name,) = self.names
            count = tf.math.count_nonzero(masks[name]) if name in masks else rows
            only = tf.where(there, (loss - rest) * factors.get(name, 1.0), 0.0)
            self.only.update_state(only, sample_weight=count)

    def shown(self, logs: dict) -> dict:
        """Puts the loss so far in the place of the batches' mean, where labels were missing."""
        if "loss" not in logs:
            return logs
        heads = private.head_metrics(self.model)
        total = self.rest.result() + (0.0 if heads else self.only.result())
        for metric in heads:
            weight = self.given.get(metric.name.removesuffix("_loss"), 1.0)
            total = total + weight * metric.result()
        missing = tf.convert_to_tensor(self.rest.count) > 0
        return {**logs, "loss": tf.where(missing, total, logs["loss"])}

    def reset(self) -> None:
        """Forgets all batches."""
        for metric in (self.rest, self.only):
            metric.reset_state()
