"""One call of `Model.fit`: what is read from which position on, by whom, and with XLA or not."""

import sys
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from mmkeras.training import jit, options, resume, workers
from mmkeras.training.nonfinite import NonFiniteGuard
from mmkeras.training.profiling import Profile


class Fit:
    """Turns the arguments of `fit` into those that Keras gets.

    Args:
        model: a compiled `mmkeras.Model`.
        given: the arguments of `fit` by name.

    Attributes:
        given: the arguments for Keras' `fit`.
        callbacks: the list that saves and restores, or None without a `Resume`.
        guard: the `NonFiniteGuard` among the callbacks, or None.
        profile: the `Profile` among the callbacks, or None.
        lengths: input -> lengths that its batches may have, of data with buckets.
        example: data to take a first batch from.
        skip: steps of the first epoch that were done before the interruption.
    """

    def __init__(self, model: keras.Model, given: dict) -> None:
        self.model, x = model, given.get("x")
        callbacks = keras.tree.flatten(given.get("callbacks") or [])
        needed = model._mm_balance.callbacks(given)
        if needed:
            callbacks = given["callbacks"] = [*callbacks, *needed]
        self.resume = resume.find(callbacks)
        self.guard = next((c for c in callbacks if isinstance(c, NonFiniteGuard)), None)
        self.profile = next((c for c in callbacks if isinstance(c, Profile)), None)
        self.held = self.resume.load(model.distribute_strategy) if self.resume else None
        self.lengths = dict(getattr(x, "buckets", None) or {})
        epoch, self.skip = 0, 0
        if self.held is not None:
            epoch, self.skip = self.held[1]["epoch"], self.held[1]["step"]
        self.example, self.callbacks = (x, given.get("y"), given.get("sample_weight")), None
        if isinstance(x, tf.data.Dataset):
            self.example = x
            given.setdefault("shuffle", False)
            replicas = model.distribute_strategy.num_replicas_in_sync
            options.check_even(x, replicas, model._mm_options["accumulate_steps"])
            given = self._positioned(given, epoch)
        elif self.resume is not None:
            raise ValueError(
                "Exact resume needs data whose position can be found again. Received: "
                f"{type(x).__name__}. Pass data.train(...), or another tf.data.Dataset."
            )
        held_out, steps = workers.share(
            model.distribute_strategy, given.get("validation_data"), given.get("validation_steps")
        )
        given = {**given, "validation_data": held_out, "validation_steps": steps}
        self.steps, self.epochs = given.get("steps_per_epoch"), given.get("epochs", 1)
        if self.steps is None and isinstance(x, tf.data.Dataset):
            self.steps = max(int(x.cardinality()), 0)
        if self.resume is not None:
            verbose = given.get("verbose", "auto")
            self.callbacks = given["callbacks"] = resume.Callbacks(
                callbacks,
                self.resume,
                self.held,
                add_history=True,
                add_progbar=verbose != 0,
                verbose=verbose,
                epochs=self.epochs,
                steps=self.steps,
                model=model,
            )
            if self.held is not None:
                given["initial_epoch"] = epoch
                model._mm_jit = self.held[1]["jit"]
        self.given = given

    def _positioned(self, given: dict, epoch: int) -> dict:
        """Lets the dataset begin at the step where the run goes on."""
        x = given["x"]
        steps = given.get("steps_per_epoch") or getattr(x, "steps", None)
        if not hasattr(x, "stream") and self.resume is not None:
            count = int(x.cardinality())
            steps = steps or (count if count > 0 else None)
            if steps is None:
                raise ValueError(
                    "Exact resume needs to know the steps of an epoch. Received: a dataset of "
                    f"cardinality {count}. Pass `steps_per_epoch=`, or data.train(...)."
                )
            if self.held is not None and self.model._mm_options["jit"] == "auto":
                next(iter(x.take(1)))  # as the measurement of XLA did, which a shuffle counts
            x = x.repeat().skip(epoch * steps + self.skip)
        first = max(epoch, given.get("initial_epoch", 0)) * (steps or 0) + self.skip
        change = None
        if given.get("class_weight") and isinstance(x.element_spec[1], dict):
            names = self.model.output_names
            change = partial(options.class_weights, weight=given["class_weight"], outputs=names)
            given = {**given, "class_weight": None}
        x, steps = workers.share(self.model.distribute_strategy, x, steps, first, change)
        return {**given, "x": x, "steps_per_epoch": steps}

    def passing(self, function: Any) -> Any:
        """Passes over the steps of the first epoch that were done before the interruption."""
        if not self.skip:
            return function

        def passed(iterator: Any) -> Any:
            if self.skip > 0:
                self.skip -= 1
                return self.model.get_metrics_result()
            return function(iterator)

        return passed

    def measured_jit(self, ways: dict) -> bool:
        """Resolves jit="auto", and says how."""
        model, strategy = self.model, self.model.distribute_strategy
        parts = strategy.num_replicas_in_sync * model._mm_options["accumulate_steps"]
        batch = jit.example(self.example, self.given.get("batch_size"), parts)
        if batch is None:
            chosen, why = False, f"a {type(self.example).__name__} shows no batch to measure with"
        elif (self.steps or 0) * self.epochs < jit.MIN_STEPS:
            chosen, why = False, f"the run has fewer than {jit.MIN_STEPS} steps: not measured"
        else:
            rows = len(tf.nest.flatten(batch)[0])
            batch = model._weighted(model._filled(batch), rows)[0]
            chosen, why = jit.choose(strategy, model.non_trainable_variables, ways, batch)
            chosen = bool(workers.agree(strategy, [0, int(chosen)]))  # XLA only where all want it
        if self.given.get("verbose", "auto") != 0:
            print(f"jit='auto' takes jit={chosen}: {why}.", file=sys.stderr)
        return chosen
