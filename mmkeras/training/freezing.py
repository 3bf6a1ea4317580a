"""Freezing and unfreezing layers by name."""

import warnings
from collections.abc import Iterator, Sequence

import keras

from mmkeras.layers.backbone import Backbone
from mmkeras.training.optimizers import matches


def freeze(model: keras.Model, patterns: Sequence[str]) -> list[str]:
    """Keeps the weights of layers as they are; returns the names of the layers.

    A frozen layer still runs its dropout; a frozen BatchNormalization uses its moving statistics
    (Keras). The state is saved with the model.

    Args:
        model: not yet compiled: what trains is read when the step is traced. A compiled one
            must be compiled again: this warns, and `fit` raises until it is.
        patterns: `fnmatch` patterns of layer names, those inside encoders included: "image_*"
            is every layer of the encoder of `image`, "fusion" the fusion. A layer of a borrowed
            backbone has its name in front: "image_backbone/conv5_*".

    Raises:
        ValueError: a pattern that matches no layer with weights.
    """
    return _set(model, patterns, trainable=False)


def unfreeze(model: keras.Model, patterns: Sequence[str] = ("*",)) -> list[str]:
    """Lets layers train again; returns their names. See `freeze`."""
    return _set(model, patterns, trainable=True)


def stages(model: keras.Model, groups: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Yields the names of what trains, a group more at each stage: staged unfreezing.

    Howard & Ruder 2018 ("gradual unfreezing"): first the new layers, then the backbone from its
    top. All else is frozen. Compile and fit at every stage: the optimizer starts anew, with a
    rate of that stage.

        head = ["fusion", "answer"]
        for epoch, names in enumerate(stages(model, [head, ["image_backbone/conv5_*"], ["*"]])):
            model.compile(mk.training.optimizer("adamw", 1e-3 / 3**epoch))
            model.fit(data.train(32), initial_epoch=epoch, epochs=epoch + 1)

    Args:
        model: as of `freeze`.
        groups: patterns of layer names, the group of each stage.

    Raises:
        ValueError: a pattern that matches no layer with weights.
    """
    every = [name for name, _ in _leaves(model)]
    for pattern in (pattern for group in groups for pattern in group):
        matches(pattern, every)
    model.compiled = False  # known here: no need to warn
    freeze(model, ["*"])
    open_ = []
    for group in groups:
        model.compiled = False
        open_ += [name for name in unfreeze(model, group) if name not in open_]
        yield open_


def _set(model: keras.Model, patterns: Sequence[str], trainable: bool) -> list[str]:
    if isinstance(patterns, str):
        raise TypeError(f"`patterns` must be a list. Received: {patterns!r}. Write [{patterns!r}].")
    names, layers = zip(*_leaves(model), strict=True)
    found = sorted({i for pattern in patterns for i in matches(pattern, names)})
    for i in found:
        layers[i].trainable = trainable
    changed(model, stacklevel=4)
    return [names[i] for i in found]


def changed(model: keras.Model, stacklevel: int = 3) -> None:
    """Makes a compiled model ask for `compile` again: what trains is read when it is traced."""
    if model.compiled:
        model.compiled = False
        warnings.warn(
            "What trains has changed: call compile(...) again before fit(...).",
            stacklevel=stacklevel,
        )


def _leaves(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Names and layers with weights, those of nested models and backbones instead of them."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, prefix)
        elif isinstance(layer, Backbone) and layer.built:
            yield from _leaves(layer.model, f"{layer.name}/")
        elif layer.weights:
            yield f"{prefix}{layer.name}", layer
