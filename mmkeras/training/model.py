"""The one model class: `fit` with XLA per replica, dense gradients, reduce first, then apply.

Stock Keras wraps the whole cross-replica step in one XLA program, which fails on more than one
device, clips gradients before they are summed over replicas, and hands the optimizer unmerged
embedding rows. This class keeps `fit`, `evaluate`, `predict` and every callback, and replaces
the step: forward + loss + backward in one `tf.function(jit_compile=...)` per replica, gradients
made dense, summed over replicas, clipped, applied. One replica equals two to float rounding.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training import private, workers
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
        **kwargs: Any,
    ) -> None:
        """Configures training; call it inside `strategy.scope()` when the model was built there.

        Args:
            optimizer: name or instance.
            loss: as in Keras; the heads' default losses when None.
            metrics: as in Keras; the heads' default metrics when it and `loss` are None.
            jit: True compiles forward, loss and backward of each replica with XLA; False never;
                "auto" compiles when a GPU or TPU is visible (on a CPU, XLA speeds recurrent and
                transformer models up and slows convolutions down: measure, then pin it).
                `model.jit` tells what was resolved.
            clip_norm: global norm, above 0, to which the summed gradients are clipped.
            **kwargs: `loss_weights`, `weighted_metrics`, `run_eagerly` of Keras.

        Raises:
            ValueError: a Keras option that is wrong on several replicas, with its replacement.
        """
        _check_options(jit, clip_norm)
        _refuse(kwargs, optimizer, self.distribute_strategy.num_replicas_in_sync)
        if loss is None:
            loss = self._head_defaults("default_loss")
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
        super().compile(
            optimizer=optimizer, loss=loss, metrics=metrics, jit_compile=False, **kwargs
        )
        self._mm_options = {"jit": jit, "clip_norm": clip_norm}

    @property
    def jit(self) -> bool:
        """Whether the training step is compiled with XLA: `compile(jit=...)`, resolved here."""
        jit = getattr(self, "_mm_options", {"jit": False})["jit"]
        if jit != "auto":
            return jit
        return bool(tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"))

    def _head_defaults(self, what: str) -> dict:
        defaults = {
            layer.name: getattr(layer, what)() for layer in self.layers if hasattr(layer, what)
        }
        missing = sorted(set(self.output_names) - set(defaults))
        if missing:
            raise ValueError(
                f"compile() needs a loss for every output. Received none for {missing}, whose "
                "layers have no default. Pass `loss={...}`."
            )
        return {name: defaults[name] for name in self.output_names}

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

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains as `keras.Model.fit`; a `tf.data.Dataset` shuffles itself."""
        if isinstance(x, tf.data.Dataset):
            kwargs.setdefault("shuffle", False)
            _check_divisible(self.distribute_strategy.num_replicas_in_sync, x)
        x, steps = workers.share(self.distribute_strategy, x)
        kwargs["steps_per_epoch"] = kwargs.get("steps_per_epoch") or steps
        held, steps = workers.share(self.distribute_strategy, kwargs.get("validation_data"))
        kwargs["validation_data"] = held
        kwargs["validation_steps"] = kwargs.get("validation_steps") or steps
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as `keras.Model.evaluate`; several workers share every batch."""
        x, steps = workers.share(self.distribute_strategy, x)
        kwargs["steps"] = kwargs.get("steps") or steps
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts as `keras.Model.predict`; several workers share every batch, all get all."""
        x, steps = workers.share(self.distribute_strategy, x)
        kwargs["steps"] = kwargs.get("steps") or steps
        return super().predict(x, *args, **kwargs)

    def train_step(self, data: Any) -> dict:
        """One step on one replica's part of the batch: gradient, reduce, clip, apply."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        loss, predictions, gradients = self._compiled_gradient(x, y, weights)
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        if replicas > 1:
            gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = self._clipped(gradients)
        # Keras sums the gradients of the replicas again; they are equal copies by now.
        self.optimizer.apply_gradients(
            [(g / replicas, v) for g, v in zip(gradients, self.trainable_variables, strict=True)]
        )
        self._track(loss, x)
        return self.compute_metrics(x, y, predictions, sample_weight=weights)

    def test_step(self, data: Any) -> dict:
        """One evaluation step on one replica's part of the batch."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        predictions = self(x, training=False)
        loss = self.compute_loss(x, y, predictions, weights, training=False)
        self._track(loss, x)
        return self.compute_metrics(x, y, predictions, sample_weight=weights)

    def _track(self, loss: Any, x: Any) -> None:
        # Under a strategy Keras has divided the loss by the number of replicas.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        rows = tf.shape(tf.nest.flatten(x)[0])[0]
        private.loss_tracker(self).update_state(loss * replicas, sample_weight=rows)

    def _gradient(self, x: Any, y: Any, weights: Any) -> tuple:
        """Loss, predictions and dense gradients of the scaled loss, on one replica."""
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = self.compute_loss(x, y, predictions, weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled, [v.value for v in variables])
        # IndexedSlices repeat a token's row once per occurrence, and Adam and its kin square
        # each one by itself: dense gradients are the right ones.
        dense = [
            tf.zeros_like(v.value) if g is None else tf.convert_to_tensor(g)
            for g, v in zip(gradients, variables, strict=True)
        ]
        return loss, predictions, dense

    def _clipped(self, gradients: list) -> list:
        if self._mm_options["clip_norm"] is None:
            return gradients
        limit = tf.constant(self._mm_options["clip_norm"], "float32")
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            limit *= tf.cast(self.optimizer.dynamic_scale, "float32")
        return tf.clip_by_global_norm(gradients, limit)[0]

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Builds optimizer, metrics and losses in the strategy's scope, reading no data."""
        if iterator is not None:
            data_batch = private.element_spec(iterator)
        if data_batch is None:
            return
        check_batch(self, data_batch)
        with self.distribute_strategy.scope():
            if self.optimizer is not None and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            private.build_from_spec(self, tf.nest.map_structure(_Shaped, data_batch))

    def make_train_function(self, force: bool = False) -> Any:
        """Builds the function that `fit` calls: one step on every replica."""
        if self.train_function is None or force:
            # Held in a closure of this call and not as a tracked attribute, so that exporting
            # the model does not find and retrace it.
            step = tf.function(
                self._gradient,
                jit_compile=True if self.jit else None,
                autograph=False,
                reduce_retracing=True,
            )
            object.__setattr__(
                self, "_compiled_gradient", self._gradient if self.run_eagerly else step
            )
            self.train_function = self._replicated(self.train_step)
        return self.train_function

    def make_test_function(self, force: bool = False) -> Any:
        """Builds the function that `evaluate` calls."""
        if self.test_function is None or force:
            self.test_function = self._replicated(self.test_step)
        return self.test_function

    def _replicated(self, step: Any) -> Any:
        strategy = self.distribute_strategy

        def run(iterator: Any) -> Any:
            logs = strategy.run(step, args=(next(iterator),))
            return tf.nest.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), logs)

        return run if self.run_eagerly else tf.function(run, reduce_retracing=True)

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
        return self._on_batch(self.make_test_function, (x, y, sample_weight), return_dict)

    def _on_batch(self, make: Any, batch: tuple, return_dict: bool) -> Any:
        # As an iterator of one element: Keras would pass a generator, and retrace at every call.
        dataset = tf.data.Dataset.from_tensors(keras.utils.pack_x_y_sample_weight(*batch))
        self._maybe_symbolic_build(data_batch=dataset.element_spec)
        if self.distribute_strategy.num_replicas_in_sync > 1:
            dataset = self.distribute_strategy.experimental_distribute_dataset(dataset)
        logs = {name: float(value) for name, value in make()(iter(dataset)).items()}
        return logs if return_dict else list(logs.values())


class _Shaped:
    """Shape and dtype of one replica's batch, in the form `_symbolic_build` reads."""

    def __init__(self, spec: Any) -> None:
        shape = tuple(spec.shape)
        self.shape = (2, *shape[1:]) if shape else shape
        self.dtype = spec.dtype.name if hasattr(spec.dtype, "name") else spec.dtype


def _check_options(jit: bool | str, clip_norm: float | None) -> None:
    if not isinstance(jit, bool) and jit != "auto":
        raise ValueError(f"`jit` must be True, False or 'auto'. Received: jit={jit!r}.")
    if clip_norm is not None and checks.real("clip_norm", clip_norm) == 0.0:
        raise ValueError(
            "`clip_norm` must be above 0, or nothing would train. Received: 0. None clips nothing."
        )


def _check_divisible(replicas: int, dataset: tf.data.Dataset) -> None:
    """Raises when a batch cannot be shared evenly: the mean of every replica counts alike."""
    rows = tf.nest.flatten(dataset.element_spec)[0].shape[:1]
    if rows and rows[0] is not None and rows[0] % replicas:
        raise ValueError(
            f"The batch must divide evenly over {replicas} replicas. Received: {rows[0]} rows. "
            "Choose a batch size that the number of replicas divides."
        )


def _refuse(kwargs: Mapping, optimizer: Any, replicas: int) -> None:
    """Raises for the Keras options that are wrong (or fail) on more than one replica."""
    if "jit_compile" in kwargs:
        raise ValueError("mmkeras compiles per replica: use `jit=` instead of `jit_compile=`.")
    if kwargs.get("steps_per_execution", 1) != 1:
        raise ValueError(
            "`steps_per_execution` must be 1: Keras' own fails on several replicas. Received: "
            f"{kwargs['steps_per_execution']}. Leave it out."
        )
    if replicas == 1:
        return
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    for option, instead in (
        ("clipnorm", "compile(clip_norm=...)"),
        ("global_clipnorm", "compile(clip_norm=...)"),
        ("clipvalue", "compile(clip_norm=...)"),
        ("gradient_accumulation_steps", "a smaller batch"),
        ("ema_overwrite_frequency", "use_ema with the SwapEMAWeights callback"),
    ):
        if getattr(inner, option, None):
            raise ValueError(
                f"The optimizer's `{option}` is not exact on several replicas (Keras applies it "
                f"before the gradients are summed). Use {instead} instead."
            )
