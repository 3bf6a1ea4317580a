"""What a way to weigh tasks adds to a training step.

The gradients of the tasks' losses ride behind those of the weights, through micro-batches, XLA and
the sum over the replicas, so that what is decided from their inner products is decided from the
global batch, alike on every replica.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.heads import head_of
from mmkeras.training import private
from mmkeras.training.balancing.balanced import Unbalanced, per_output
from mmkeras.training.batch_losses import objectives_of
from mmkeras.training.multitask.method import TaskWeights

ABSENT = -2.0
"""In place of a norm or a cosine that there is not."""


class BalancedTasks(Unbalanced):
    """The step of a model whose tasks are weighed.

    Args:
        model: that is being compiled.
        method: as given to `compile`; a copy is used.
        losses, loss_weights: of `compile`.

    Raises:
        ValueError: fewer than two outputs have a loss.
    """

    several = True

    def __init__(
        self, model: keras.Model, method: TaskWeights, losses: Any, loss_weights: Any
    ) -> None:
        super().__init__(model)
        self.method = type(method).from_config(method.get_config())
        given = dict(
            zip(model.output_names, per_output(loss_weights, model.output_names), strict=True)
        )
        self.tasks = tuple(
            output
            for output in model.output_names
            if output not in objectives_of(model)
            and (not isinstance(losses, Mapping) or losses.get(output) is not None)
        )
        if len(self.tasks) < 2:
            raise ValueError(
                "Tasks are weighed in a model with two heads or more that have a loss. Received: "
                f"{list(self.tasks)}, of the outputs {model.output_names}. Leave `tasks` out."
            )
        self.layer = keras.layers.Layer(name="tasks")
        self.layer.built = True
        heads = [head_of(model, task) for task in self.tasks]
        self.method.build(self.layer, self.tasks, [given[task] for task in self.tasks], heads)
        self.pairs = list(itertools.combinations(range(len(self.tasks)), 2))
        self.of_steps = [
            f"{task}_{what}" for what in ("weight", "gradient_norm") for task in self.tasks
        ]
        self.of_steps += [f"{self.tasks[i]}_{self.tasks[j]}_cosine" for i, j in self.pairs]
        self.layer.means = {name: keras.metrics.Mean(name=name) for name in self.of_steps}

    def objective(
        self, loss: Any, heads: list, predictions: Any, said: Any, y: Any, weights: Any
    ) -> tuple:
        """Returns the weighed sum with what layers add, no figures, and the tasks' losses."""
        places = {metric.name: i for i, metric in enumerate(private.head_metrics(self.model))}
        losses = [heads[places[f"{task}_loss"]] for task in self.tasks]
        there = [_mean_weight(weights, task) for task in self.tasks]
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        added = [tf.cast(tf.reduce_sum(more), tf.float32) for more in self.model.losses]
        total = sum(added, self.method.objective(tf.stack(losses), tf.stack(there)))
        # As Keras divides the loss: gradients are summed over the replicas.
        return total / replicas, [], [part / replicas for part in losses]

    def gradients(self, tape: tf.GradientTape, parts: list) -> list:
        """Returns the gradients of every task's loss with respect to the shared weights."""
        held = [self.model.trainable_variables[place].value for place in self._shared()]
        found = []
        for part in parts:
            own = tape.gradient(part, held)
            found += [
                tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(own, held, strict=True)
            ]
        return found

    def _shared(self) -> list[int]:
        """Places, among the trainable weights, of those that the gradients are compared on."""
        heads = [self.model.get_layer(task) for task in self.tasks]
        owned = {id(v) for part in (*heads, self.layer) for v in part.trainable_variables}
        places = [i for i, v in enumerate(self.model.trainable_variables) if id(v) not in owned]
        if self.method.shared == "last":
            before = {la.name: la for head in heads for la in private.layers_before(head)}
            last = {id(v) for layer in before.values() for v in layer.trainable_variables}
            chosen = [i for i in places if id(self.model.trainable_variables[i]) in last]
            places = chosen or places
        return places

    def reduced(self, losses: Any, gradients: list, rows: Any) -> tuple[Any, list]:
        """Measures the tasks' gradients, and combines them where the way does."""
        model, count = self.model, len(self.tasks)
        own = len(model.trainable_variables)
        gradients, each = list(gradients[:own]), gradients[own:]
        size = len(each) // count
        each = [each[i * size : (i + 1) * size] for i in range(count)]
        gram = self._gram(each)
        weights = tf.stop_gradient(self.method.weights())
        if self.method.apart:
            seed = tf.stack(
                [tf.constant(0, tf.int64), tf.cast(model.optimizer.iterations.value, tf.int64)]
            )
            change = self.method.coefficients(gram * weights[:, None] * weights, seed) - 1.0
            for n, place in enumerate(self._shared()):
                more = [
                    tf.cast(change[k] * weights[k], g[n].dtype) * g[n] for k, g in enumerate(each)
                ]
                gradients[place] += tf.add_n(more)
        norms = tf.sqrt(tf.linalg.diag_part(gram))
        finite = tf.where(tf.math.is_finite(norms), norms, ABSENT)
        shown = [weights, finite, tf.stack([_cosine(gram, norms, i, j) for i, j in self.pairs])]
        after = self.method.following(self._global(losses, rows), norms)
        return tf.concat([losses, *shown, *([] if after is None else [after])], 0), gradients

    def _gram(self, each: list) -> Any:
        """Returns (K, K) inner products, without the scale of mixed precision."""
        flat = [[tf.cast(g, tf.float32) for g in one] for one in each]
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scale = tf.cast(optimizer.dynamic_scale, tf.float32)
            flat = [[g / scale for g in one] for one in flat]

        def inner(a: list, b: list) -> Any:
            return tf.add_n([tf.reduce_sum(p * q) for p, q in zip(a, b, strict=True)])

        count = range(len(flat))
        found = {(i, j): inner(flat[i], flat[j]) for i in count for j in count if i <= j}
        return tf.stack([tf.stack([found[min(i, j), max(i, j)] for j in count]) for i in count])

    def _global(self, losses: Any, rows: Any) -> Any:
        """Returns (K,) the tasks' losses of the global batch."""
        names = [metric.name for metric in private.head_metrics(self.model)]
        mine = tf.stack([losses[1 + names.index(f"{task}_loss")] for task in self.tasks])
        rows = tf.cast(rows, tf.float32)
        context = tf.distribute.get_replica_context()
        held = tf.concat([tf.math.multiply_no_nan(mine, rows), [rows]], 0)
        held = context.all_reduce(tf.distribute.ReduceOp.SUM, held)
        return held[:-1] / held[-1]

    def update(self, figures: Any, rows: Any) -> None:
        """Adds the figures of a training step to the logs, and keeps what is to be remembered."""
        count = len(self.of_steps)
        if figures.shape[0] == 0:
            return
        for name, value in zip(self.of_steps, tf.unstack(figures[:count]), strict=True):
            self.layer.means[name].update_state(value, sample_weight=value > ABSENT)
        if figures.shape[0] > count:
            self.method.keep(figures[count:])

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns the way's."""
        return self.method.callbacks(given)


def balanced(
    model: keras.Model, method: TaskWeights, losses: Any, loss_weights: Any
) -> BalancedTasks:
    """Returns the step of a model that is being compiled, and gives it what the way remembers."""
    made = BalancedTasks(model, method, losses, loss_weights)
    private.attach(model, "_mm_heads", made.layer)
    return made


def _mean_weight(weights: Any, task: str) -> Any:
    own = weights.get(task) if isinstance(weights, Mapping) else weights
    return tf.constant(1.0) if own is None else tf.reduce_mean(tf.cast(own, tf.float32))


def _cosine(gram: Any, norms: Any, i: int, j: int) -> Any:
    """Returns the cosine of two gradients, or `ABSENT` where one of them is zero."""
    both = norms[i] * norms[j]
    cosine = tf.clip_by_value(tf.math.divide_no_nan(gram[i, j], both), -1.0, 1.0)
    return tf.where((both > 0.0) & tf.math.is_finite(both), cosine, ABSENT)
