"""The one model class: `fit` with XLA per replica, dense gradients, reduce first, then apply.

Stock Keras wraps the whole cross-replica step in one XLA program, which fails on more than one
device, clips gradients before they are summed over replicas, and hands the optimizer unmerged
embedding rows. This class keeps `fit`, `evaluate`, `predict` and every callback, and replaces
the step: forward + loss + backward in one `tf.function(jit_compile=...)` per replica, gradients
made dense, summed over replicas, clipped, applied. One replica equals two to float rounding.
"""

import inspect
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import register
from mmkeras.heads.truth import batch_truth
from mmkeras.training import (
    balancing,
    batch_losses,
    labels,
    lengths,
    multitask,
    optimizers,
    options,
    private,
    resume,
    step,
    workers,
)
from mmkeras.training.fit import Fit
from mmkeras.training.inputs import check_batch


@register
class Model(keras.Model):
    """A Functional `keras.Model` whose `fit` is exact and compiled on any number of replicas.

    `mmkeras.assemble` returns one; `mmkeras.Model(inputs, outputs)` makes one by hand. It has no
    `__init__` of its own, so it saves and loads as any Functional model.
    """

    def compile(
        self,
        optimizer: Any = "adamw",
        loss: Any = None,
        metrics: Any = None,
        *,
        jit: bool | str = "auto",
        clip_norm: float | None = None,
        accumulate_steps: int = 1,
        balance: Any = None,
        tasks: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures training; call it inside `strategy.scope()` when the model was built there.

        Args:
            optimizer: name or instance; "adam" and "adamw" are Keras' in numbers, started faster.
            loss: as in Keras; the heads' default losses when None.
            metrics: as in Keras; the heads' default metrics when it and `loss` are None.
            jit: True compiles forward, loss and backward of each replica with XLA; False never;
                "auto" times both on the first batch of the first `fit` and takes the faster
                (not at all in runs of fewer than 200 steps), and says what it took and why.
                `model.jit` tells it too.
            clip_norm: global norm, above 0, to which the summed gradients are clipped.
            accumulate_steps: micro-batches into which every replica's part of a batch is cut, to
                save memory: gradients are averaged, one optimizer step per batch. The same
                numbers as without, but for batch statistics, which are of a micro-batch.
            balance: remedy for modalities that learn at different speeds, or its name; see
                `mk.training.balance`.
            tasks: how the losses of several heads are weighed against each other, or its name;
                see `mk.training.tasks`.
            **kwargs: `loss_weights` (of heads and objectives, by name), `weighted_metrics`,
                `run_eagerly` of Keras.

        Raises:
            ValueError: a Keras option that is wrong on several replicas, with its replacement.
        """
        options.check(jit, clip_norm, accumulate_steps)
        replicas = self.distribute_strategy.num_replicas_in_sync
        options.refuse(kwargs, optimizer, loss, replicas)
        if optimizer in ("adam", "adamw"):
            # The numbers of Keras' own, with a graph that is traced in half the time.
            optimizer = optimizers.optimizer(optimizer, no_decay=())
        synchronized = step.synchronizing(self) if replicas > 1 else []
        options.check_synchronized(synchronized, jit, accumulate_steps)
        if loss is None:
            loss = self._head_defaults("default_loss")
            objectives = batch_losses.objectives_of(self)
            options.check_losses({**loss, **objectives}, self.output_names)
            if metrics is None:
                metrics = self._head_defaults("default_metrics")
        if tf.distribute.get_strategy() is not self.distribute_strategy or not all(
            self.distribute_strategy.extended.variable_created_in_scope(v.value)
            for v in self.variables
        ):
            raise ValueError(
                "A model must be built and compiled under the same strategy. Received: variables "
                "of another scope. Call assemble(...) and compile(...) inside one "
                "`with strategy.scope():`."
            )
        shares = options.loss_weights(kwargs.get("loss_weights"), self.output_names)
        given = kwargs.get("loss_weights")
        if given is not None and batch_losses.objectives_of(self):  # Keras is told of the heads'
            told = loss if isinstance(loss, dict) else {}
            kwargs["loss_weights"] = {name: shares.get(name, 1.0) for name in told} or None
        remedy = None if balance is None else balancing.balance(balance)
        method = None if tasks is None else multitask.tasks(tasks)
        options.check_balances(balance, tasks)
        self._mm_balance = balancing.balanced(self, remedy, kwargs.get("loss_weights"))
        if method is not None:
            self._mm_balance = multitask.balanced(self, method, loss, kwargs.get("loss_weights"))
        super().compile(
            optimizer=optimizer,
            loss=loss or None,
            metrics=metrics or None,
            jit_compile=False,
            **kwargs,
        )
        self._mm_joint = batch_losses.BatchLosses(self, shares, alone=not loss)
        self._mm_total = labels.Total(self, loss, kwargs.get("loss_weights"))
        private.leave_reduced(self.optimizer)
        self._mm_options = {
            "jit": jit,
            "clip_norm": clip_norm,
            "accumulate_steps": accumulate_steps,
            "loss_weights": given,
            "balance": remedy and keras.saving.serialize_keras_object(remedy),
            "tasks": method and keras.saving.serialize_keras_object(method),
        }
        self._mm_jit = False if synchronized else jit
        self._mm_synchronized, self._mm_fit = bool(synchronized), None
        self._mm_guard, self._mm_profile, self._mm_lengths = None, None, {}

    @property
    def jit(self) -> bool | str:
        """Whether the training step is compiled with XLA; "auto" until the first `fit` decides."""
        return getattr(self, "_mm_jit", "auto")

    @property
    def metrics(self) -> list:
        """Keras' metrics, and the losses of the objectives."""
        joint = getattr(self, "_mm_joint", None)
        return [*super().metrics, *(joint.metrics if joint else [])]

    def _head_defaults(self, what: str) -> dict:
        """Returns output -> default, of the heads that have one."""
        heads = {layer.name: layer for layer in self.layers if hasattr(layer, what)}
        return {name: getattr(heads[name], what)() for name in self.output_names if name in heads}

    def get_compile_config(self) -> dict:
        """Returns Keras' config and the options of this class."""
        config = super().get_compile_config()
        return {**config, **getattr(self, "_mm_options", {})} if config else config

    def compile_from_config(self, config: dict) -> None:
        """Compiles from `get_compile_config`."""
        config = keras.saving.deserialize_keras_object(config)
        config.pop("jit_compile", None)
        self.compile(**config)
        self.optimizer.build(self.trainable_variables)

    @private.without_autotuning()
    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`; a `tf.data.Dataset` shuffles itself.

        Of a `data.train(...)` dataset it reads the stream, whose batch at a global step depends on
        the seed and the step alone. `class_weight` may name the heads: `{"answer": {0: 2.0}}`. With
        `mk.training.Resume` among the callbacks an interrupted run goes on where it was, and
        with `mk.training.NonFiniteGuard` a step that is not finite changes nothing.

        Raises:
            ValueError: the data are of several lengths (`buckets`) that the model cannot take.
            FloatingPointError: the guard stopped the run.
            SystemExit: with `mk.training.PREEMPTED`, after SIGTERM, once all is saved.
        """
        bound = inspect.signature(keras.Model.fit).bind_partial(self, x, *args, **kwargs).arguments
        given = {name: value for name, value in bound.items() if name != "self"}
        if not self.compiled:
            return super().fit(**given)
        self._mm_joint.check(x)
        run = Fit(self, given)
        self._mm_fit = run
        watched = (run.guard, run.profile, run.lengths)
        if watched != (self._mm_guard, self._mm_profile, self._mm_lengths) or run.skip:
            self._mm_guard, self._mm_profile, self._mm_lengths = watched
            self.train_function = None
        step.spread_seeds(self)
        try:
            with resume.heeding_sigterm(run.callbacks), lengths.shorter(self, run.lengths):
                lengths.check(self, run.example, run.lengths)
                history = super().fit(**run.given)
        finally:
            self._mm_fit = None
        if run.resume is not None and run.resume.delete:
            workers.agree(self.distribute_strategy, [0])  # all have come to the end
            shutil.rmtree(run.resume.folder, ignore_errors=True)
        return history

    @private.without_autotuning()
    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as `keras.Model.evaluate`; several workers share every batch."""
        x, steps = workers.share(self.distribute_strategy, x, kwargs.get("steps"))
        with self._evaluating():
            return super().evaluate(x, *args, **(kwargs | ({"steps": steps} if steps else {})))

    @private.without_autotuning()
    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts as `keras.Model.predict`; several workers share every batch, all get all."""
        x, steps = workers.share(self.distribute_strategy, x, kwargs.get("steps"))
        return super().predict(x, *args, **(kwargs | ({"steps": steps} if steps else {})))

    def train_step(self, data: Any) -> dict:
        """One step on one replica's part of the batch: gradient, reduce, clip, apply."""
        return self._update(data, *self._reduced_gradient(data)[:3])

    def _reduced_gradient(self, data: Any) -> tuple:
        """Losses, predictions, reduced and clipped gradients, and if guarded: all is finite."""
        batch, rows = step.without_empty(self._filled(data))
        batch, factors = self._weighted(batch, rows)
        keys = self._mm_joint.keys(batch[0], rows, self._mm_options["accumulate_steps"])
        losses, predictions, gradients = self._accumulated_gradient(batch, rows, keys)
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync > 1:
            gradients = step.weighted_by_rows(gradients, rows, context)
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        losses, gradients = self._mm_balance.reduced(losses, gradients, rows)
        losses = self._of_labelled(losses, factors)
        gradients, finite = self._clipped(gradients)
        if finite is not None:
            bad = tf.cast(~(finite & tf.reduce_all(tf.math.is_finite(losses))), tf.float32)
            finite = context.all_reduce(tf.distribute.ReduceOp.SUM, bad) == 0
        self._mm_joint.push(keys, finite)
        return losses, predictions, gradients, finite

    def _update(self, data: Any, losses: Any, predictions: Any, gradients: list) -> dict:
        """Applies reduced gradients and updates the metrics."""
        x, y, weights = self._filled(data)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self._mm_joint.follow()
        return self._score(x, y, weights, losses, predictions)

    def test_step(self, data: Any) -> dict:
        """One evaluation step on one replica's part of the batch."""
        given = self._filled(data)
        batch, rows = step.without_empty(given)
        (x, y, weights), factors = self._weighted(batch, rows)
        with batch_truth(y, weights):
            predictions, said = self._mm_balance.forward(x, training=False)
        with private.head_losses(self) as heads:
            loss = self._heads_loss(x, y, predictions, weights, training=False)
        _, figures, _ = self._mm_balance.objective(loss, heads, predictions, said, y, weights)
        joint = self._mm_joint.evaluated(predictions, y, weights, rows)
        losses = tf.stack([self._mm_joint.total(loss, joint), *heads, *joint, *figures])
        losses = self._of_labelled(losses, factors)
        if factors:
            rest = self._mm_joint.weighed(joint, sum(self.losses, tf.zeros([])))
            whole = losses[0] * tf.distribute.get_strategy().num_replicas_in_sync
            masks = labels.split(given[1], factors)[1]
            self._mm_total.update(whole, rest, rows, factors, masks)
        return self._score(*given, losses, predictions)

    def predict_step(self, data: Any) -> Any:
        """Predictions of one replica's part of the batch."""
        (x, _, _), rows = step.without_empty(keras.utils.unpack_x_y_sample_weight(data))
        return tf.nest.map_structure(lambda t: t[:rows], self(x, training=False))

    def get_metrics_result(self) -> dict:
        """Losses and metrics so far, by name."""
        return self._mm_balance.shown(self._mm_total.shown(super().get_metrics_result()))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        with self._mm_balance.evaluating():
            try:
                yield
            finally:
                self._mm_total.reset()

    def _score(self, x: Any, y: Any, weights: Any, losses: Any, predictions: Any) -> dict:
        """Updates losses and metrics; a replica without a row counts for nothing."""
        # Under a strategy Keras has divided the loss by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        heads = [*private.head_metrics(self), *self._mm_joint.metrics]
        self._mm_balance.update(losses[1 + len(heads) :], rows)
        losses = tf.where(rows > 0, losses, tf.zeros_like(losses))
        private.loss_tracker(self).update_state(losses[0] * replicas, sample_weight=rows)
        masks = labels.split(y, self._with_loss())[1]
        for i, metric in enumerate(heads):
            mask = masks.get(metric.name.removesuffix("_loss"))
            count = rows if mask is None else tf.math.count_nonzero(mask, dtype=tf.float32)
            metric.update_state(losses[i + 1], sample_weight=count)
        predictions = tf.nest.map_structure(lambda t: t[:rows], predictions)
        y, predictions, weights = labels.without(y, predictions, weights, self._with_loss())
        y = self._mm_joint.with_truth(y, predictions)
        return self.compute_metrics(x, y, predictions, sample_weight=weights)

    def _filled(self, data: Any) -> tuple:
        return labels.filled(data, self._mm_joint.layers)

    def _weighted(self, batch: tuple, rows: Any) -> tuple:
        return labels.weighted(batch, rows, self._with_loss(), list(self._mm_joint.layers))

    def _with_loss(self) -> list[str]:
        """Names of the outputs whose truth may be missing in some rows: all but objectives."""
        return [name for name in self.output_names if name not in self._mm_joint.layers]

    def _of_labelled(self, losses: Any, factors: dict) -> Any:
        """Makes the logged losses of heads means over the rows that have labels."""
        metrics = private.head_metrics(self)
        if not factors or not metrics:
            return losses
        each = [factors.get(metric.name.removesuffix("_loss"), 1.0) for metric in metrics]
        return tf.concat([losses[:1], losses[1 : 1 + len(each)] * each, losses[1 + len(each) :]], 0)

    def _heads_loss(self, *batch: Any, training: bool) -> Any:
        """What Keras minimises: nothing where all outputs are objectives'."""
        if self._mm_joint.alone and not self.losses:
            return tf.zeros([])
        x, y, predictions, weights = batch
        y = self._mm_joint.with_truth(y, predictions)
        return self.compute_loss(x, y, predictions, weights, training=training)

    def _gradient(
        self, x: Any, y: Any, weights: Any, cotangents: Any = None, keys: Any = None
    ) -> tuple:
        """Losses (total, heads, objectives, figures), predictions, dense gradients of a replica."""
        several = self._mm_balance.several
        with tf.GradientTape(several) as tape, private.head_losses(self) as heads:
            with batch_truth(y, weights):
                predictions, said = self._mm_balance.forward(x, training=True)
            loss = self._heads_loss(x, y, predictions, weights, training=True)
            objective, figures, parts = self._mm_balance.objective(
                loss, heads, predictions, said, y, weights
            )
            given = (predictions, y, weights, cotangents, keys)
            objective, joint = self._mm_joint.added(objective, *given)
            scaled = self.optimizer.scale_loss(objective)
            parts = [self.optimizer.scale_loss(part) for part in parts]
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        # IndexedSlices repeat a token's row once per occurrence, and Adam and its kin square
        # each one by itself: dense gradients are the right ones.
        dense = [
            tf.zeros_like(v.value) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, variables, strict=True)
        ]
        dense += self._mm_balance.gradients(tape, parts)
        losses = tf.stack([self._mm_joint.total(loss, joint), *heads, *joint, *figures])
        return losses, predictions, dense

    def _accumulated_gradient(self, batch: tuple, rows: Any, keys: dict) -> tuple:
        count = self._mm_options["accumulate_steps"]
        spanning = tf.distribute.get_strategy().num_replicas_in_sync > 1
        if self._mm_joint and (count > 1 or spanning):
            return self._mm_joint.gradient(self._compiled_gradient, batch, rows, count, keys)
        if keys:
            return self._compiled_gradient(*batch, None, keys)
        return step.accumulated(self._compiled_gradient, batch, count)

    def _clipped(self, gradients: list) -> tuple[list, Any]:
        """Clips to the global norm; with a guard also says whether the norm is finite."""
        limit = self._mm_options["clip_norm"]
        guarded = self._mm_guard is not None
        if limit is None and not guarded:
            return gradients, None
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) if guarded else None
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            # Infinite gradients are how the optimizer finds the largest scale.
            finite = tf.constant(True) if guarded else None
            limit = limit and limit * tf.cast(self.optimizer.dynamic_scale, "float32")
        if limit is not None:
            gradients = tf.clip_by_global_norm(gradients, limit, use_norm=norm)[0]
        return gradients, finite

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds optimizer, metrics and losses in the strategy's scope, reading no data."""
        if iterator is not None:
            data_batch = private.element_spec(iterator)
        if data_batch is None:
            return
        check_batch(self, data_batch)
        data_batch = lengths.declared(self, data_batch)
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data_batch)
        labels.check(y, self._mm_joint.layers)
        if isinstance(y, dict):
            masks = labels.names(y, self.output_names).values()
            y = {name: value for name, value in y.items() if name not in masks}
        y = self._mm_joint.with_truth(y, dict(zip(self.output_names, self.outputs, strict=True)))
        data_batch = keras.utils.pack_x_y_sample_weight(x, y, weights)
        with self.distribute_strategy.scope():
            if self.optimizer is not None and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            private.build_from_spec(self, tf.nest.map_structure(_Shaped, data_batch))
            heads = self._with_loss()
            if self._mm_joint and len(heads) == 1:  # beside an objective its loss is not the loss
                private.log_only_head(self, heads[0])

    def make_train_function(self, force: bool = False) -> Any:
        """Builds the function that `fit` calls: one step on every replica."""
        if self.train_function is None or force:
            self._choose_gradient()
            take = self._mm_profile.next if self._mm_profile else next
            guarded = self._mm_guard is not None
            made = self._guarded(take) if guarded else self._replicated(self.train_step, take)
            self.train_function = self._mm_fit.passing(made) if self._mm_fit else made
        return self.train_function

    def _choose_gradient(self) -> None:
        """Makes the compiled or plain gradient function, after measuring where it was asked to."""
        ways = {
            # Traced by themselves, so that XLA sees forward, loss and backward and nothing that
            # spans the replicas.
            jit: tf.function(
                self._gradient,
                jit_compile=jit or None,
                autograph=False,
                reduce_retracing=not self._mm_lengths,
            )
            for jit in (False, True)
        }
        if self.jit == "auto" and self._mm_fit is not None:
            self._mm_jit = self._mm_fit.measured_jit(ways)
        chosen = ways[self.jit is True]
        if self.run_eagerly or self._mm_synchronized:
            chosen = self._gradient
        self._mm_joint.trace(self.jit is True, plain=chosen == self._gradient)
        chosen = lengths.by_length(chosen, self._mm_lengths)
        # Not as a tracked attribute, so that exporting the model does not find and retrace it.
        object.__setattr__(self, "_compiled_gradient", chosen)

    def make_test_function(self, force: bool = False) -> Any:
        """Builds the function that `evaluate` calls."""
        if self.test_function is None or force:
            self.test_function = self._replicated(self.test_step)
        return self.test_function

    def _replicated(self, step: Any, take: Any = next) -> Any:
        strategy = self.distribute_strategy

        def run(iterator: Any) -> Any:
            logs = strategy.run(step, args=(take(iterator),))
            return tf.nest.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), logs)

        return run if self.run_eagerly else _traced(run)

    def _guarded(self, take: Any) -> Any:
        """As `_replicated(train_step)`, but a step that is not finite is reported and left out."""
        strategy, guard = self.distribute_strategy, self._mm_guard

        def run(iterator: Any) -> Any:
            data = take(iterator)
            *parts, finite = strategy.run(self._reduced_gradient, args=(data,))

            def update() -> Any:
                strategy.run(self._update, args=(data, *parts))
                return tf.constant(0)

            def report() -> Any:
                return step.reported(self, guard, data, *parts)

            tf.cond(strategy.experimental_local_results(finite)[0], update, report)
            logs = strategy.run(self.get_metrics_result)
            return tf.nest.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), logs)

        return run if self.run_eagerly else _traced(run)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, return_dict: bool = False
    ) -> Any:
        """One training step on a (global) batch; returns the loss and metrics so far."""
        return self._on_batch(self.make_train_function, (x, y, sample_weight), return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, *, return_dict: bool = False
    ) -> Any:
        """Loss and metrics of a (global) batch."""
        self.reset_metrics()
        with self._evaluating():
            return self._on_batch(self.make_test_function, (x, y, sample_weight), return_dict)

    def _on_batch(self, make: Any, batch: tuple, return_dict: bool) -> Any:
        # As an iterator of one element: Keras would pass a generator, and retrace at every call.
        dataset = tf.data.Dataset.from_tensors(keras.utils.pack_x_y_sample_weight(*batch))
        self._maybe_symbolic_build(data_batch=dataset.element_spec)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            dataset = self.distribute_strategy.experimental_distribute_dataset(dataset)
        logs = {name: float(value) for name, value in make()(iter(dataset)).items()}
        return logs if return_dict else list(logs.values())


def _traced(run: Any) -> tf.types.experimental.PolymorphicFunction:
    # Nothing in a step needs autograph, and converting the code costs a fifth of the trace.
    return tf.function(run, autograph=False, reduce_retracing=True)


class _Shaped:
    """Shape and dtype of one replica's batch, in the form `_symbolic_build` reads."""

    def __init__(self, spec: Any) -> None:
        shape = tuple(spec.shape)
        self.shape = (2, *shape[1:]) if shape else shape
        self.dtype = spec.dtype.name if hasattr(spec.dtype, "name") else spec.dtype
