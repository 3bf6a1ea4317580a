"""Training on batches of several lengths, those of `data.train(..., buckets=...)`.

A model is made for one length, the declared one, and takes every shorter one while it is trained.
The step is traced once and, in it, the gradient once per length, with static shapes: XLA compiles
each, and a layer may read its T as a number.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.training import private, step

TOLERANCE = {"float32": 1e-4}
"""Largest difference of an output, over 1 + its size; 0.05 in lower precision."""


def by_length(gradient: Callable, lengths: Mapping[str, tuple[int, ...]]) -> Callable:
    """Returns the gradient function with a branch for every combination of lengths.

    Args:
        gradient: function of x and more.
        lengths: input -> its lengths; the mask `NAME_mask` has the same.
    """
    if not lengths:
        return gradient

    def branch(x: dict, given: tuple, chosen: tuple[int, ...]) -> Any:
        x = dict(x)
        for name, length in zip(lengths, chosen, strict=True):
            for key in (name, f"{name}_mask"):
                x[key] = tf.ensure_shape(x[key], (None, length, *x[key].shape[2:]))
        return gradient(x, *given)

    def switched(x: dict, *given: Any) -> Any:
        if all(x[name].shape[1] is not None for name in lengths):
            return gradient(x, *given)
        number = 0
        for name, held in lengths.items():
            place = tf.searchsorted(tf.constant(held), tf.shape(x[name])[1:2])[0]
            number = number * len(held) + place
        every = itertools.product(*lengths.values())
        return tf.switch_case(number, [partial(branch, x, given, chosen) for chosen in every])

    return switched


@contextmanager
def shorter(model: keras.Model, lengths: Mapping[str, Any]) -> Iterator[None]:
    """Lets the model and the encoders in it take shorter sequences than they declare."""
    names = {key for name in lengths for key in (name, f"{name}_mask")}
    changed = []
    for layer in private.flatten_layers(model) if names else []:
        specs = layer.input_spec if isinstance(layer, keras.Model) else None
        if isinstance(specs, list) and any(spec.name in names for spec in specs):
            changed.append((layer, specs))
            layer.input_spec = [_any_length(s) if s.name in names else s for s in specs]
    try:
        yield
    finally:
        for layer, specs in changed:
            layer.input_spec = specs


def _any_length(spec: keras.InputSpec) -> keras.InputSpec:
    shape = (spec.shape[0], None, *spec.shape[2:])
    return keras.InputSpec(shape=shape, allow_last_axis_squeeze=True, name=spec.name)


def declared(model: keras.Model, batch: Any) -> Any:
    """Returns the spec of a batch with the model's lengths where it leaves them open."""
    x, *rest = batch if isinstance(batch, tuple) else (batch,)
    if not isinstance(x, Mapping) or not isinstance(model.input, Mapping):
        return batch
    x = {
        name: tf.TensorSpec((spec.shape[0], *model.input[name].shape[1:]), spec.dtype)
        if name in model.input and None in tuple(spec.shape)[1:]
        else spec
        for name, spec in x.items()
    }
    return (x, *rest)


def check(model: keras.Model, dataset: Any, lengths: Mapping[str, tuple[int, ...]]) -> None:
    """Raises unless the model's outputs for cut sequences are those for padded ones.

    Tried on the first two rows of the data, once for every length of each input; in the second
    row, inputs of several lengths are absent.

    Raises:
        ValueError: a part of the model fails on a shorter sequence, or counts its padding.
    """
    if not lengths:
        return
    if model._mm_synchronized:
        raise ValueError(
            "Layers that need all replicas in their forward pass cannot be trained on several "
            f"lengths. Received: {step.synchronizing(model)} and buckets={dict(lengths)}. Leave "
            "`buckets` out, or set synchronized=False."
        )
    x = next(iter(dataset.stream().take(1)))[0]
    whole = {name: tensor[:2] for name, tensor in x.items() if name in model.input}
    for name, held in lengths.items():
        places = np.arange(held[-1]) % whole[name].shape[1]
        whole[name] = tf.gather(whole[name], places, axis=1)
        there = tf.range(whole[name].shape[0])[:, None] < 1
        whole[f"{name}_mask"] = tf.repeat(there, held[-1], axis=1)
    for name, held in lengths.items():
        for length in held[:-1]:
            _compare(model, whole, name, length)


def _compare(model: keras.Model, x: dict, name: str, length: int) -> None:
    """Compares the outputs for a cut input with those for the padded one."""
    real = tf.range(x[name].shape[1]) < length
    padded = {**x, f"{name}_mask": x[f"{name}_mask"] & real}
    cut = {**padded, **{key: padded[key][:, :length] for key in (name, f"{name}_mask")}}
    expected = tf.nest.flatten(model(padded, training=False))
    rule = (
        f"To be trained on buckets, the model must give for {name!r}, cut to {length} steps, what "
        "it gives for the padded sequence."
    )
    way_out = f"Leave {name!r} out of `buckets`, or take another encoder or fusion."
    try:
        found = tf.nest.flatten(model(cut, training=False))
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ValueError(f"{rule} Received: an error. {way_out} It was: {error}") from error
    allowed = TOLERANCE.get(str(model.compute_dtype), 0.05)
    for one, other in zip(expected, found, strict=True):
        one, other = (np.asarray(tf.cast(t, tf.float32)) for t in (one, other))
        error = np.inf
        if one.shape == other.shape:
            error = float(np.max(np.abs(one - other) / (1.0 + np.abs(one)), initial=0.0))
        if not error <= allowed:
            raise ValueError(
                f"{rule} Received: outputs that differ by {error:.2g}, so that a part of it "
                f"counts the padding. {way_out}"
            )
