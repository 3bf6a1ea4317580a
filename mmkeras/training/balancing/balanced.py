"""What a remedy adds to a training step, and what it is without one: nothing.

The modalities' heads read the encoders inside one forward pass: a second Functional model over the
same layers returns predictions and theirs. Everything that is summed over samples rides as means
over a replica's rows behind the losses, through micro-batches and XLA; what is decided from the
sums over the global batch is decided once they are summed over the replicas, alike on each.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.heads import Head, head_of
from mmkeras.training import private
from mmkeras.training.balancing.blending import JOINT
from mmkeras.training.balancing.heads import ModalityHeads, encoded
from mmkeras.training.balancing.remedy import Remedy
from mmkeras.training.batch_losses import objectives_of


class Unbalanced:
    """The step of a model without a remedy.

    Args:
        model: that is being compiled.

    Attributes:
        several: whether gradients of several losses are taken.
        of_steps: names of the logs that only a training step has.
    """

    several = False
    of_steps: list[str] = []

    def __init__(self, model: keras.Model) -> None:
        self.model, self.evaluates = model, False

    def forward(self, x: Any, training: bool) -> tuple[Any, Any]:
        """Returns predictions, and what the modalities' heads say."""
        return self.model(x, training=training), None

    def objective(
        self, loss: Any, heads: list, predictions: Any, said: Any, y: Any, weights: Any
    ) -> tuple:
        """Returns what is minimised, figures to carry behind the losses, and losses by themselves.

        All on one replica. Of the losses by themselves `gradients` takes the gradient of each.

        Args:
            loss: of all heads, as Keras has it.
            heads: the loss of each.
            predictions, said: see `forward`.
            y, weights: truth and sample weights.
        """
        return loss, [], []

    def gradients(self, tape: tf.GradientTape, parts: list) -> list:
        """Returns gradients to carry behind those of the weights, on one replica."""
        return []

    def reduced(self, losses: Any, gradients: list, rows: Any) -> tuple[Any, list]:
        """Returns losses with figures of the step, and changed gradients, summed over replicas."""
        return losses, gradients

    def update(self, figures: Any, rows: Any) -> None:
        """Adds the figures behind the losses to the logs."""

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Says that what runs inside is an evaluation, for `shown`."""
        self.evaluates = True
        try:
            yield
        finally:
            self.evaluates = False

    def shown(self, logs: dict) -> dict:
        """Leaves out what only a training step has, in an evaluation."""
        hidden = self.of_steps if self.evaluates else ()
        return {name: value for name, value in logs.items() if name not in hidden}

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that the remedy needs in a `fit` with these arguments."""
        return []


class Balanced(Unbalanced):
    """The step of a model with a remedy.

    Args:
        model: of encoders, as `assemble` makes it; gets the modalities' heads as a layer.
        remedy: as given to `compile`; a copy is used.
        loss_weights: of Keras' `compile`.

    Raises:
        ValueError: the model has fewer than two encoders, or a head without a default loss.
    """

    def __init__(self, model: keras.Model, remedy: Remedy, loss_weights: Any = None) -> None:
        super().__init__(model)
        self.remedy = type(remedy).from_config(remedy.get_config())
        towers = encoded(model)
        names = tuple(sorted(towers))
        if len(names) < 2:
            raise ValueError(
                "Modalities can be balanced in a model with an encoder for each of two or more, "
                f"as mk.assemble makes it. Received: encoders of {list(names)} in {model.name!r}."
            )
        self.names, self.heads = names, _heads(model)
        self.voices = (*names, JOINT) if remedy.joint else names
        shares = dict(
            zip(model.output_names, per_output(loss_weights, model.output_names), strict=True)
        )
        self.shares = [shares[output] for output in self.heads]
        self.encoders = {m: encoder for m, (encoder, _) in towers.items()}
        layer = ModalityHeads(names, self.heads, detached=remedy.detached, name="modality_heads")
        said = layer({m: tokens for m, (_, tokens) in towers.items()})
        with private.unlocked(layer):
            self.remedy.build(layer, self.voices)
            self._make_logs(layer)
        self.wide = keras.Model(model.input, {"predictions": model.output, "said": said})
        self.wide.input_spec = None  # the encoders' own say which lengths they take
        self.layer = layer

    def _make_logs(self, layer: keras.layers.Layer) -> None:
        of_rows = [f"{v}_{what}" for v in self.voices for what in ("loss", "score")]
        of_steps = [f"{m}_gradient_norm" for m in self.names]
        if self.remedy.logged:
            of_steps += [f"{v}_{self.remedy.logged}" for v in self.voices]
        layer.means = {name: keras.metrics.Mean(name=name) for name in of_rows + of_steps}
        self.means, self.of_rows, self.of_steps = layer.means, of_rows, of_steps

    def forward(self, x: Any, training: bool) -> tuple[Any, Any]:
        """Returns predictions, and what the modalities' heads say."""
        out = self.wide(x, training=training)
        return out["predictions"], out["said"]

    def objective(
        self, loss: Any, heads: list, predictions: Any, said: Any, y: Any, weights: Any
    ) -> tuple:
        """Returns what is minimised; per voice the mean over rows of loss, score and weight."""
        own, figures = [], []
        for voice in self.voices:
            spoken, here = predictions, None
            if voice != JOINT:
                spoken, here = said[voice], said[voice]["present"]
            parts = [
                self._figures(o, _of(spoken, o), here, _of(y, o), _of(weights, o))
                for o in self.heads
            ]
            own.append(tf.add_n([w * p[0] for w, p in zip(self.shares, parts, strict=True)]))
            figures += tf.unstack(tf.add_n(parts))
        # As Keras has divided the loss: gradients are summed over the replicas.
        own = tf.stack(own[: len(self.names)])
        own /= tf.distribute.get_strategy().num_replicas_in_sync
        return self.remedy.objective(loss, own), figures, []

    def _figures(self, output: str, spoken: Any, here: Any, y: Any, weights: Any) -> Any:
        """Returns the means over rows of loss, score and weight of an output, (3,)."""
        y = tf.cast(y, tf.float32)
        if len(y.shape) < len(spoken.shape) and spoken.shape[-1] == 1:
            y = y[..., None]
        each = tf.cast(self.heads[output].default_loss().call(y, spoken), tf.float32)
        share = tf.ones_like(each) if here is None else tf.cast(here, tf.float32)
        if weights is not None:
            share *= tf.cast(tf.reshape(weights, (-1,)), tf.float32)
        means = [tf.math.multiply_no_nan(part, share) for part in (each, tf.exp(-each))]
        return tf.reduce_mean(tf.stack([*means, share]), axis=1)

    def reduced(self, losses: Any, gradients: list, rows: Any) -> tuple[Any, list]:
        """Measures and changes the encoders' gradients, by the sums over the global batch."""
        context = tf.distribute.get_replica_context()
        count = 3 * len(self.voices)
        sums = tf.math.multiply_no_nan(losses[-count:], tf.cast(rows, tf.float32))
        sums = tf.reshape(context.all_reduce(tf.distribute.ReduceOp.SUM, sums), (-1, 3))
        values = self.remedy.step_values(sums[:, 1], sums[:, 2])
        places = {id(v): i for i, v in enumerate(self.model.trainable_variables)}
        gradients, norms = list(gradients), []
        step = tf.cast(self.model.optimizer.iterations.value, tf.int64)
        for i, m in enumerate(self.names):
            held = [places[id(v)] for v in self.encoders[m].trainable_variables]
            norms.append(self._norm([gradients[place] for place in held]))
            for place in held if values is not None else []:
                seed = tf.stack([tf.constant(place, tf.int64), step])
                gradients[place] = self.remedy.modulated(gradients[place], values[i], seed)
        parts = [losses, tf.stack(norms), *([values] if values is not None else [])]
        return tf.concat(parts, axis=0), gradients

    def _norm(self, gradients: list) -> Any:
        """Returns the norm, or -1 where it is not finite, as it may be under loss scaling."""
        if not gradients:
            return tf.constant(0.0)
        norm = tf.linalg.global_norm([tf.cast(g, tf.float32) for g in gradients])
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            norm /= tf.cast(optimizer.dynamic_scale, tf.float32)
        return tf.where(tf.math.is_finite(norm), norm, -1.0)

    def update(self, figures: Any, rows: Any) -> None:
        """Adds the figures behind the losses to the logs; those of a step only in training."""
        count = len(self.voices)
        rows = tf.cast(rows, tf.float32)
        for i, voice in enumerate(self.voices):
            loss, score, weight = (figures[3 * i + k] for k in range(3))
            for what, value in (("loss", loss), ("score", score)):
                mean = tf.math.divide_no_nan(value, weight)
                self.means[f"{voice}_{what}"].update_state(mean, sample_weight=weight * rows)
        if figures.shape[0] > 3 * count:
            for name, value in zip(self.of_steps, tf.unstack(figures[3 * count :]), strict=True):
                self.means[name].update_state(value, sample_weight=value >= 0.0)

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns the remedy's."""
        return self.remedy.callbacks(given)


def balanced(model: keras.Model, remedy: Remedy | None, loss_weights: Any = None) -> Unbalanced:
    """Returns the step of a model that is being compiled, and gives the model the heads it needs.

    They take the place of those of a `compile` before.
    """
    private.attach(model, "_mm_heads", None)
    if remedy is None:
        return Unbalanced(model)
    made = Balanced(model, remedy, loss_weights)
    private.attach(model, "_mm_heads", made.layer)
    return made


def _heads(model: keras.Model) -> dict[str, Head]:
    objectives = objectives_of(model)
    outputs = [output for output in model.output_names if output not in objectives]
    heads = {output: head_of(model, output) for output in outputs}
    if not heads:
        raise ValueError(
            "A remedy needs a head that each modality can have a copy of. Received: objectives "
            f"alone, {sorted(objectives)}. Add a head, or leave `balance` out."
        )
    for output, head in heads.items():
        if not isinstance(head, Head) or not hasattr(head, "default_loss"):
            raise ValueError(
                "Every modality gets a copy of each head, which needs a default loss, as "
                f"mk.heads.Classifier has. Received: {head!r} for the output {output!r}. Write it "
                "as a subclass of mk.heads.Head, with `default_loss`."
            )
    return heads


def per_output(weights: Any, outputs: list[str]) -> list[float]:
    """Returns the weight of every output from a dict, a list, a number or None."""
    if isinstance(weights, Mapping):
        return [float(weights.get(o, 1.0)) for o in outputs]
    if isinstance(weights, list | tuple):
        return [float(weight) for weight in weights]
    return [1.0 if weights is None else float(weights)] * len(outputs)


def _of(tree: Any, output: str) -> Any:
    return tree.get(output) if isinstance(tree, Mapping) else tree
