"""Losses of the global batch: objectives on several replicas, and with cached gradients.

A loss of all pairs of a batch cannot be summed from the replicas' parts, and the compiled step of
a replica may hold nothing that spans the replicas. So a step has three phases: the outputs are
computed without keeping anything for the gradient; they are gathered, and loss and gradient with
respect to them are taken, outside of XLA; and the forward pass is run again with its gradient,
handed the gradient of its outputs. Random layers draw the same numbers both times. The numbers are
those of one device with the whole batch. With `accumulate_steps` the first and the last phase go
micro-batch by micro-batch (gradient caching: Gao, Zhang, Han, Callan 2021, arXiv 2101.06983), so
that the memory of the forward pass is that of one, and the loss still sees all pairs.

An objective with a queue also reads keys, of a momentum copy (`mmkeras.training.momentum`): they
are computed and gathered before all else, and what the loss and the queue get is the same on every
replica.

One device without micro-batches needs none of it: there the loss is part of the compiled step.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from mmkeras.objectives import Objective
from mmkeras.training import private, step
from mmkeras.training.momentum import momenta


class BatchLosses:
    """The objectives among a model's outputs, and their logged means."""

    def __init__(self, model: keras.Model, shares: Mapping[str, float], alone: bool) -> None:
        """Finds them; made inside the strategy's scope.

        Args:
            model: that is being compiled.
            shares: output -> weight of its loss; 1 for others. What is logged is not weighed.
            alone: no output has another loss.
        """
        self.model, self.alone = model, alone
        self.layers = objectives_of(model)
        self.shares = [shares.get(name, 1.0) for name in self.layers]
        self.momenta = momenta(model, self.layers)
        self.metrics = [keras.metrics.Mean(name=f"{name}_loss") for name in self.layers]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.layers)

    def with_truth(self, y: Any, predictions: Mapping) -> Any:
        """The truth with something for the objectives that need none: Keras asks for every output.

        Args:
            y: truth by output.
            predictions: by output, tensors or specs.
        """
        missing = [name for name in self.layers if isinstance(y, Mapping) and name not in y]
        if self.alone or not missing:
            return y
        return {**y, **{name: predictions[name] for name in missing}}

    def added(
        self,
        loss: Any,
        predictions: Mapping,
        y: Any,
        weights: Any,
        cotangents: Mapping | None,
        keys: Mapping | None,
    ) -> tuple[Any, list]:
        """The loss to differentiate, and the objectives' losses.

        Args:
            loss: of the heads.
            predictions, y, weights: of one device's whole batch, or of a part of it.
            cotangents: gradient of the objectives with respect to their outputs here; None where
                this is the whole batch.
            keys: of the whole batch, see `keys`.
        """
        if cotangents is None:
            parts = self._losses(predictions, y, weights, keys=keys)
            return self.weighed(parts, loss), parts
        for name, gradient in cotangents.items():
            loss = loss + tf.reduce_sum(predictions[name] * gradient)
        return loss, [tf.zeros([])] * len(self.layers)

    def _outputs(self, x: Any, seeds: list) -> tuple[dict, list]:
        """Outputs of the objectives in training, changing no state, and the seeds' next states.

        Args:
            x: inputs.
            seeds: the states of the model's seed generators to start from.
        """
        states = self._seeds()
        given = list(zip(states, seeds, strict=True))
        with keras.StatelessScope(state_mapping=given) as scope:
            predictions = self.model(x, training=True)
            after = [scope.get_current_value(v) for v in states]
        after = [now if new is None else new for new, now in zip(after, seeds, strict=True)]
        return {name: predictions[name] for name in self.layers}, after

    def total(self, loss: Any, parts: list) -> Any:
        """The logged loss of a replica: of the heads and of the objectives."""
        # Under a strategy Keras has divided the loss of the heads by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(loss, tf.float32) + self.weighed(parts, tf.zeros([])) / replicas

    def weighed(self, parts: list, start: Any) -> Any:
        """Adds the objectives' losses, each times its weight."""
        return sum((w * part for w, part in zip(self.shares, parts, strict=True)), start)

    def trace(self, jit: bool, plain: bool) -> None:
        """Makes the function of the first phase; `plain` leaves it as it is."""
        traced = tf.function(self._outputs, jit_compile=jit or None, autograph=False)
        self.outputs = self._outputs if plain else traced
        traced = tf.function(self._keys, jit_compile=jit or None, autograph=False)
        self.taught = self._keys if plain else traced
        if int(self.model.optimizer.iterations.numpy()) == 0:
            for momentum in self.momenta.values():
                momentum.begin()

    def keys(self, x: Any, rows: Any, count: int) -> dict:
        """What the momentum copies make of the global batch, by objective that has a queue.

        Args:
            x, rows, count: see `gradient`.
        """
        held = []
        for i in range(count if self.momenta else 0):
            with tf.control_dependencies(tf.nest.flatten(held)):
                held.append(self.taught(_micro_batch(x, i, count)))
        keys = {name: tf.concat([one[name] for one in held], 0) for name in self.momenta}
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            keys = {name: _gathered(context, [k[:rows]], rows)[1][0] for name, k in keys.items()}
        return keys

    def _keys(self, x: Any) -> dict:
        return {name: momentum.keys(x) for name, momentum in self.momenta.items()}

    def push(self, keys: Mapping, finite: Any) -> None:
        """Lets the keys of a step enter the queues, unless it is known not to be finite."""
        for name, momentum in self.momenta.items():
            momentum.push(keys[name], finite)

    def follow(self) -> None:
        """Moves the momentum copies, after the weights have been updated."""
        for momentum in self.momenta.values():
            momentum.follow()

    def check(self, x: Any) -> None:
        """Raises ValueError where a queue is as long as the data of `fit`."""
        for momentum in self.momenta.values():
            momentum.check(x)

    def gradient(
        self, compiled: Callable, batch: tuple, rows: Any, count: int, keys: Mapping
    ) -> tuple:
        """Losses, predictions and gradients of one replica's part of the global batch.

        Args:
            compiled: the model's `_gradient`, the last phase.
            batch: `(x, y, weights)`.
            rows: the real ones of it.
            count: micro-batches.
            keys: of the global batch, see `keys`.
        """
        y, weights = batch[1:]
        outputs = self._all_outputs(batch[0], count)
        own = [v for layer in self.layers.values() for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            parts = self._losses(outputs, y, weights, rows, keys)
            total = self.weighed(parts, tf.zeros([]))
        d_outputs, d_own = tape.gradient(
            total, (outputs, [v.value for v in own]), unconnected_gradients="zero"
        )
        context = tf.distribute.get_replica_context()
        # What follows divides by the number of micro-batches and weights by rows; this is whole.
        share = tf.cast(count, tf.float32)
        if not isinstance(rows, int):
            everyone = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(rows, tf.float32))
            mine = tf.cast(rows, tf.float32) * context.num_replicas_in_sync / everyone
            share = tf.math.divide_no_nan(share, mine)
        d_outputs = {name: share * d for name, d in d_outputs.items()}
        batch = (*batch, d_outputs)
        losses, predictions, gradients = step.accumulated(compiled, batch, count)
        share = self.model.optimizer.scale_loss(share / count)
        places = {id(v): i for i, v in enumerate(self.model.trainable_variables)}
        for variable, d in zip(own, d_own, strict=True):
            if id(variable) in places:
                gradients[places[id(variable)]] += share * d
        if context.num_replicas_in_sync > 1:
            parts = context.all_reduce(tf.distribute.ReduceOp.SUM, parts)
        first = 1 + len(private.head_metrics(self.model))
        total = self.total(losses[0], parts)
        joined = [[total], losses[1:first], parts, losses[first + len(parts) :]]
        return tf.concat(joined, axis=0), predictions, gradients

    def _all_outputs(self, x: Any, count: int) -> dict:
        """The objectives' outputs for a replica's part of the batch, by micro-batches."""
        held, seeds = [], [tf.convert_to_tensor(v.value) for v in self._seeds()]
        for i in range(count):
            # One after the other, so that the memory is that of one.
            with tf.control_dependencies(tf.nest.flatten(held)):
                found, seeds = self.outputs(_micro_batch(x, i, count), seeds)
            held.append(found)
        return {name: tf.concat([one[name] for one in held], 0) for name in self.layers}

    def evaluated(self, predictions: Mapping, y: Any, weights: Any, rows: Any) -> list:
        """The losses of the global batch, in evaluation."""
        if not self.layers:
            return []  # there is nothing to sum over the replicas
        context = tf.distribute.get_replica_context()
        parts = self._losses(predictions, y, weights, rows)
        if context.num_replicas_in_sync > 1:
            parts = context.all_reduce(tf.distribute.ReduceOp.SUM, parts)
        return parts

    def _losses(
        self, outputs: Mapping, y: Any, weights: Any, rows: Any = None, keys: Mapping | None = None
    ) -> list:
        """The losses of a whole batch, or, with several replicas, this one's share in them.

        Those with a queue are what they are in evaluation where `keys` is None.
        """
        context = tf.distribute.get_replica_context()
        spanning = rows is not None and context.num_replicas_in_sync > 1
        losses = []
        for name, layer in self.layers.items():
            given = [outputs[name], *(_of(part, name, len(self.layers)) for part in (y, weights))]
            if rows is not None:
                given = [None if t is None else t[:rows] for t in given]
            share = None
            if spanning:
                share, given = _gathered(context, given, rows)
            loss = layer.batch_loss
            if name in (keys or {}):
                queue = self.momenta[name].queue.value
                loss = partial(layer.queue_loss, keys=keys[name], queue=queue)
            losses.append(tf.cast(loss(*given, rows=share), tf.float32))
        return losses

    def _seeds(self) -> list:
        return [v for v in self.model.non_trainable_variables if private.is_seed_state(v)]


def objectives_of(model: keras.Model) -> dict[str, Objective]:
    """Returns output -> objective."""
    found = {layer.name: layer for layer in model.layers if isinstance(layer, Objective)}
    return {name: layer for name, layer in found.items() if name in model.output_names}


def _of(part: Any, name: str, count: int) -> Any:
    """Truth or weights of an output, or None."""
    if isinstance(part, Mapping):
        return part.get(name)
    return part if count == 1 else None


def _micro_batch(x: Any, i: int, count: int) -> Any:
    """The inputs of one of `count` micro-batches."""
    return tf.nest.map_structure(lambda t: tf.identity(_part(t, i, count)), x)


def _part(tensor: Any, i: int, count: int) -> Any:
    if tensor is None:
        return None
    size = tensor.shape[0] if tensor.shape[0] is not None else tf.shape(tensor)[0]
    part = tensor[i * (size // count) : (i + 1) * (size // count)]
    if isinstance(size, int):
        part = tf.ensure_shape(part, [size // count, *tensor.shape[1:]])
    return part


def _gathered(context: Any, tensors: list, rows: Any) -> tuple[tuple, list]:
    """This replica's (start, size) in the global batch, and the global tensors."""
    replica, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
    there = [t for t in tensors if t is not None]
    everything = iter([context.all_gather(t, axis=0) for t in there])
    if isinstance(rows, int):
        start, size = replica * rows, rows * replicas
    else:
        counts = context.all_gather(tf.reshape(rows, [1]), axis=0)
        start, size = tf.reduce_sum(counts[:replica]), None
    whole = [
        None if t is None else tf.ensure_shape(next(everything), [size, *t.shape[1:]])
        for t in tensors
    ]
    return (start, rows), whole
