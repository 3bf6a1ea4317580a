"""The private Keras names that mmkeras needs, all of them here, each checked at import.

`_symbolic_build` and `_maybe_symbolic_build` are where `fit` reads a batch to build metrics and
optimizer; `_loss_tracker` is the mean that `fit` logs as "loss"; `_distributed_dataset` is the
dataset behind the iterator of an epoch; `_flatten_layers` walks the layers inside layers;
`_tracker` keeps a built layer from taking new weights, which adapters are;
`_inbound_nodes` are the calls of a layer, of which a model is one, and `_keras_history` says whose
output a symbolic tensor is;
`_compile_loss` holds the mean that is logged of every head's loss; `_momentums` and `_velocities`
are Adam's slots, `_get_variable_index` finds a weight's, and `_all_reduce_sum_gradients` sums over
the replicas what the step here has summed before. Keras has no public way to any of them, which is
why `setup.py` bounds Keras to the minor version these were tested on. Of TensorFlow it is
`_create_device_dataset`, which makes what every replica reads from.
"""

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

NAMES = ("_maybe_symbolic_build", "_symbolic_build", "_flatten_layers")
OF_OPTIMIZERS = ("_all_reduce_sum_gradients", "_get_variable_index")


def check() -> None:
    """Raises ImportError when this Keras lacks a private name that mmkeras builds on."""
    missing = [name for name in NAMES if not hasattr(keras.Model, name)]
    missing += [name for name in OF_OPTIMIZERS if not hasattr(keras.optimizers.Optimizer, name)]
    # Instance attributes are looked for in the code that sets them: a probe model would make
    # TensorFlow's devices, after which logical ones cannot be asked for.
    epoch = inspect.unwrap(keras.Model.fit).__globals__.get("TFEpochIterator")
    for name, setter in (
        ("_loss_tracker", inspect.unwrap(keras.Model.compile)),
        ("_compile_loss", inspect.unwrap(keras.Model.compile)),
        ("_distributed_dataset", getattr(epoch, "__init__", None)),
        ("_tracker", inspect.unwrap(keras.layers.Layer._initialize_tracker)),
        ("_inbound_nodes", keras.Operation.__init__),
        ("_momentums", keras.optimizers.Adam.build),
        ("_velocities", keras.optimizers.Adam.build),
    ):
        code = getattr(setter, "__code__", None)
        if code is None or name not in code.co_names:
            missing.append(name)
    if not hasattr(multi_device_iterator_ops, "_create_device_dataset"):
        raise ImportError(
            "mmkeras needs TensorFlow's private name '_create_device_dataset', which TensorFlow "
            f"{tf.__version__} does not have. Install the tested version: pip install "
            "'tensorflow>=2.21,<2.22'."
        )
    if missing:
        raise ImportError(
            f"mmkeras needs the private Keras names {missing}, which Keras {keras.__version__} "
            "does not have. Install the tested version: pip install 'keras>=3.15.1,<3.16'."
        )


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that `fit` logs as "loss"."""
    return model._loss_tracker


_LOSSES = threading.local()  # replicas are threads


@contextmanager
def head_losses(model: keras.Model) -> Iterator[list]:
    """Collects the loss of every head that Keras would log, in the order of `head_metrics`.

    Keras would update the metrics inside the compiled step, before it is known whether the step
    counts, and by the static batch size, or 1 where that is unknown.
    """
    for metric in head_metrics(model):
        metric.update_state = partial(_collect, type(metric).update_state, metric)
    _LOSSES.held = []
    try:
        yield _LOSSES.held
    finally:
        _LOSSES.held = None


def head_metrics(model: keras.Model) -> list[keras.metrics.Mean]:
    """Returns the metrics that are logged as `HEAD_loss`."""
    return model._compile_loss.metrics if model._compile_loss is not None else []


def log_only_head(model: keras.Model, name: str) -> None:
    """Lets the loss of an only head be logged by itself, as Keras does those of several."""
    held = model._compile_loss
    if held is not None and not held.metrics:
        held._tracker.add_to_store("metrics", keras.metrics.Mean(name=f"{name}_loss"))


def _collect(update: Any, metric: Any, value: Any, sample_weight: Any = None) -> Any:
    held = getattr(_LOSSES, "held", None)
    if held is None:
        return update(metric, value, sample_weight)
    held.append(tf.cast(value, tf.float32))
    return None


def element_spec(iterator: Any) -> Any:
    """Returns the spec of one replica's batch from the iterator of an epoch."""
    spec = iterator._distributed_dataset.element_spec
    return tf.nest.map_structure(
        lambda s: s._value_specs[0] if hasattr(s, "_value_specs") else s, spec
    )


def flatten_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns all layers of a model, those inside of layers included."""
    return list(model._flatten_layers())


@contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """Lets a built layer take new weights."""
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def attach(model: keras.Model, name: str, layer: keras.layers.Layer | None) -> None:
    """Gives a built model a further layer, in place of the one that was attached by this name."""
    model._tracker.untrack(getattr(model, name, None))
    with unlocked(model):
        setattr(model, name, layer)


def outputs_of(layer: keras.Model, inputs: list) -> Any:
    """Returns the symbolic outputs of the call of a model on some of these tensors, or None."""
    known = {id(tensor) for tensor in inputs}
    for node in layer._inbound_nodes:
        if all(id(tensor) in known for tensor in node.input_tensors):
            return keras.tree.pack_sequence_as(layer.output, node.output_tensors)
    return None


def layers_before(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers whose outputs a layer of a Functional model reads."""
    tensors = keras.tree.flatten(layer.input)
    found = {id(t._keras_history.operation): t._keras_history.operation for t in tensors}
    return [made for made in found.values() if isinstance(made, keras.layers.Layer)]


def is_seed_state(variable: Any) -> bool:
    """Says whether a variable is the state of a `keras.random.SeedGenerator`."""
    return variable.path.endswith("seed_generator_state")


def leave_reduced(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps an optimizer from summing gradients over the replicas that are summed already."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = _as_they_are


def _as_they_are(gradients: Any) -> Any:
    return gradients


def index_of(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a weight among those that the optimizer was built for."""
    return optimizer._get_variable_index(variable)


def adam_slots(optimizer: keras.optimizers.Adam, index: int) -> tuple[Any, Any]:
    """Returns the TensorFlow variables of first and second moment of a weight."""
    return optimizer._momentums[index].value, optimizer._velocities[index].value


def build_from_spec(model: keras.Model, element_spec: Any) -> None:
    """Builds metrics, losses and optimizer from the spec of a batch, without reading data."""
    model._symbolic_build(data_batch=element_spec)


@contextmanager
def without_autotuning() -> Iterator[None]:
    """Lets iterators of several replicas that are made inside run without autotuning.

    Each replica reads from a dataset that TensorFlow makes with its default options, whatever
    those of the data are; closing it may wait as long as all steps have taken (see
    `mmkeras.data.options`).
    """
    make = multi_device_iterator_ops._create_device_dataset

    def tuned(*args: Any) -> tf.data.Dataset:
        options = tf.data.Options()
        options.autotune.enabled = False
        return make(*args).with_options(options)

    multi_device_iterator_ops._create_device_dataset = tuned
    try:
        yield
    finally:
        multi_device_iterator_ops._create_device_dataset = make


check()
