"""The momentum copy of what an objective reads, and the queue of its keys: state of a training.

The copy has no layers of its own: a forward pass of the model's is run with the copy's values in
place of those weights that are trained. All of it is held by a layer that the model is given at
`compile`, so that checkpoints and `.keras` files have it.
"""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.objectives import MomentumContrastive
from mmkeras.objectives.queue import pushed
from mmkeras.training import private, state


class Momentum:
    """Copy and queue of one objective.

    Args:
        model: that is being compiled, in its strategy's scope; gets the state as a layer, in the
            place of that of a `compile` before.
        objective: among its layers.
    """

    def __init__(self, model: keras.Model, objective: MomentumContrastive) -> None:
        self.objective = objective
        self.tower = keras.Model(model.input, objective.output)
        self.tower.input_spec = None  # the encoders' own say which lengths they take
        self.weights = self.tower.trainable_variables
        layer = keras.layers.Layer(name=f"{objective.name}_momentum", dtype="float32")

        def made(shape: tuple, name: str) -> Any:
            return layer.add_weight(shape, "zeros", "float32", trainable=False, name=name)

        self.copies = [made(v.shape, v.path.replace("/", "_")) for v in self.weights]
        shape = (len(objective.modalities), objective.queue, objective.dim)
        self.queue = made(shape, "queue")
        layer.built = True
        private.attach(model, f"_mm_{layer.name}", layer)
        self.begin()

    def begin(self) -> None:
        """Makes the copy equal to the model."""
        for copy, weight in zip(self.copies, self.weights, strict=True):
            state.assign(copy, state.parts(weight))

    def keys(self, x: Any) -> Any:
        """Returns what the copy makes of a batch, (B, M, dim); no gradient, no state changed."""
        values = [tf.convert_to_tensor(copy.value) for copy in self.copies]
        with keras.StatelessScope(state_mapping=list(zip(self.weights, values, strict=True))):
            return tf.stop_gradient(self.tower(x, training=False))

    def push(self, keys: Any, finite: Any = None) -> None:
        """Lets the keys of the global batch enter the queue, unless the step is not finite."""
        queue = tf.convert_to_tensor(self.queue.value)
        pairs = zip(tf.unstack(queue), tf.unstack(keys, axis=1), strict=True)
        after = tf.stack([pushed(*pair) for pair in pairs])
        self.queue.assign(after if finite is None else tf.where(finite, after, queue))

    def follow(self) -> None:
        """Moves the copy towards the model's weights."""
        rate = self.objective.momentum
        for copy, weight in zip(self.copies, self.weights, strict=True):
            copy.assign(rate * copy.value + (1.0 - rate) * tf.cast(weight.value, tf.float32))

    def check(self, x: Any) -> None:
        """Raises ValueError where the queue is as long as the data, as far as that can be told."""
        rows = _rows(x)
        if rows is not None and self.objective.queue >= rows:
            raise ValueError(
                "`queue` must be below the number of samples in an epoch: a sample's own earlier "
                f"key would stand among its negatives at every step. Received: "
                f"queue={self.objective.queue} for {rows} samples. Choose a smaller one."
            )


def momenta(model: keras.Model, objectives: Mapping[str, Any]) -> dict[str, Momentum]:
    """Returns output -> copy and queue, of the objectives that have them."""
    return {
        name: Momentum(model, layer)
        for name, layer in objectives.items()
        if isinstance(layer, MomentumContrastive)
    }


def _rows(x: Any) -> int | None:
    """The samples of one pass over the data, or None where that is not known beforehand."""
    if not isinstance(x, tf.data.Dataset):
        shapes = [leaf.shape for leaf in keras.tree.flatten(x) if hasattr(leaf, "shape")]
        return shapes[0][0] if shapes else None
    batches = getattr(x, "steps", None) or int(x.cardinality())
    size = tf.nest.flatten(x.element_spec)[0].shape[0]
    return batches * size if size and batches > 0 else None
