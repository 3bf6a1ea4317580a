"""Freezing and unfreezing layers by name."""

import warnings
from collections.abc import Iterator, Sequence

import keras

from mmkeras.training.optimizers import matches


def freeze(model: keras.Model, patterns: Sequence[str]) -> list[str]:
    """Keeps the weights of layers as they are; returns the names of the layers.

    A frozen layer still runs its dropout; a frozen BatchNormalization uses its moving statistics
    (Keras). The state is saved with the model.

    Args:
        model: not yet compiled: what trains is read when the step is traced. A compiled one
            must be compiled again: this warns, and `fit` raises until it is.
        patterns: `fnmatch` patterns of layer names, those inside encoders included: "image_*"
            is every layer of the encoder of `image`, "fusion" the fusion.

    Raises:
        ValueError: a pattern that matches no layer with weights.
    """
    return _set(model, patterns, trainable=False)


def unfreeze(model: keras.Model, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Lets layers train again; returns their names. See `freeze`."""
    return _set(model, patterns, trainable=True)


def _set(model: keras.Model, patterns: Sequence[str], trainable: bool) -> list[str]:
    if isinstance(patterns, str):
        raise TypeError(f"`patterns` must be a list. Received: {patterns!r}. Write [{patterns!r}].")
    layers = list(_leaves(model))
    names = [layer.name for layer in layers]
    found = sorted({i for pattern in patterns for i in matches(pattern, names)})
    for i in found:
        layers[i].trainable = trainable
    if model.compiled:
        model.compiled = False
        warnings.warn(
            "What trains has changed: call compile(...) again before fit(...).", stacklevel=3
        )
    return [names[i] for i in found]


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Layers with weights, those of nested models instead of the models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        elif layer.weights:
            yield layer
