"""Features of a frozen tower, computed once per distinct item instead of at every step."""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Vector
from mmkeras.core.identifiers import nearest
from mmkeras.data import Data
from mmkeras.data.cache import key_of, stored
from mmkeras.data.columns import Column
from mmkeras.data.options import tuned_map
from mmkeras.data.reader import Reader
from mmkeras.layers import MeanToken


def pooled(encoder: keras.Model) -> keras.Model:
    """Returns the encoder with one token: the mean of its real tokens.

    Give it to `assemble(encoders={...})` and to `cache_features`.
    """
    tokens, mask = MeanToken(name=f"{encoder.name}_mean")(*_tokens(encoder))
    outputs = {"tokens": tokens, "mask": mask}
    return keras.Model(encoder.input, outputs, name=f"{encoder.name}_pooled")


def cache_features(
    model: keras.Model,
    data: Data,
    modality: str,
    *,
    folder: str | os.PathLike | None = None,
    batch_size: int = 64,
) -> Data:
    """Returns the data with a modality replaced by what a frozen encoder makes of it.

    The modality becomes a `Vector` of the encoder's width D, in every split; an absent item
    stays absent. A model whose encoder passes the vector on (`{"name": "mlp", "num_layers": 0,
    "hidden_dim": D}`) then answers as one with the encoder itself answers on raw items. (Not
    always to the bit: the same sums are taken over batches of other sizes, in another order,
    which moves outputs by up to 1e-6.)

    Args:
        model: the encoder, or an assembled model that holds it; it must be frozen and give one
            token per item (see `pooled`). It runs without dropout.
        data: what `mk.data.table` returned.
        modality: its name.
        folder: keeps the features on disk under a hash of the encoder (config and weights), spec
            and items; in memory when None.
        batch_size: items that the encoder sees at a time.

    Raises:
        ValueError: unknown modality, no encoder for it, one that still trains, or one that gives
            more than one token.
    """
    if not isinstance(data, Data):
        raise TypeError(
            "`data` must be what mk.data.table returns: features are kept beside its rows. "
            f"Received: {type(data).__name__}. Cache them before writing shards or mixing."
        )
    if modality not in data.modalities:
        raise ValueError(f"Unknown modality {modality!r}. {nearest(modality, data.modalities)}")
    spec = data.modalities[modality]
    if spec.item is not spec:
        raise ValueError(
            f"Features are kept per item, and a sample of {modality!r} has several. Received: "
            f"{spec}. Leave it out, or give each item a modality of its own."
        )
    encoder = _encoder(model, modality)
    width = _width(encoder, modality)
    if getattr(spec, "augment", {}):
        warnings.warn(
            f"The features of {modality!r} are those of whole items: its augmentation "
            f"{sorted(spec.augment)} is left out from here on.",
            stacklevel=2,
        )
    new = Vector(size=width, normalize=False)
    identity = _identity(encoder)
    run = tf.function(lambda x: encoder(x, training=False), reduce_retracing=True)

    def features(column: Column) -> Column:
        def produce() -> Iterable[tuple]:
            return _batches(run, modality, spec, column, batch_size)

        count = len(column.items)
        if folder is None:
            values = np.concatenate([part for (part,) in produce()])
        else:
            shapes = {"value": ((width,), "float32")}
            key = key_of(spec, column, identity)
            values = stored(folder, key, count, shapes, produce)["value"]
        return Column("raw", values, column.index)

    splits = {
        name: replace(split, columns={**split.columns, modality: features(split.columns[modality])})
        for name, split in data.splits.items()
    }
    return replace(data, modalities={**data.modalities, modality: new}, splits=splits)


def _batches(
    run: Any, name: str, spec: Modality, column: Column, size: int
) -> Iterable[tuple[np.ndarray]]:
    """Yields float32 (B, D); NaN where the item is absent, as a Vector says it."""
    items = tf.data.Dataset.range(len(column.items)).batch(size)
    reader = Reader(spec, column)
    for value, mask in tuned_map(items, reader.decode):
        out = run({name: value, f"{name}_mask": mask})
        token = tf.cast(out["tokens"][:, 0], tf.float32)
        yield (tf.where(out["mask"], token, np.nan).numpy(),)


def _tokens(encoder: keras.Model) -> tuple[Any, Any]:
    return encoder.output["tokens"], encoder.output["mask"]


def _encoder(model: keras.Model, name: str) -> keras.Model:
    """Returns the model itself or its sub-model that encodes the modality; it must be frozen."""
    wanted = {name, f"{name}_mask"}
    found = [
        part
        for part in (model, *model.layers)
        if isinstance(part, keras.Model)
        and isinstance(getattr(part, "input", None), dict)
        and set(part.input) == wanted
        and isinstance(part.output, dict)
        and set(part.output) == {"tokens", "mask"}
    ]
    if not found:
        raise ValueError(
            f"`model` must be, or hold, an encoder of {name!r}: a model with the inputs "
            f"{sorted(wanted)} and the outputs ['mask', 'tokens']. Received: {model.name!r}. Pass "
            "the assembled model, or what mmkeras.encoders.get(...) returned."
        )
    if found[0].trainable_variables:
        raise ValueError(
            f"The encoder of {name!r} must be frozen, or its features would soon be those of "
            f"other weights. Received: {len(found[0].trainable_variables)} variables that train. "
            "Set `encoder.trainable = False`."
        )
    return found[0]


def _width(encoder: keras.Model, name: str) -> int:
    _, count, width = _tokens(encoder)[0].shape
    if count != 1:
        raise ValueError(
            f"The encoder of {name!r} must give one token per item, because a Vector is one. "
            f"Received: {count} tokens of {width} numbers. Pass mk.training.pooled(encoder), and "
            "build the model with it."
        )
    return width


def _identity(encoder: keras.Model) -> bytes:
    """Returns a hash of the encoder's config and weights."""
    config = json.dumps(encoder.get_config(), sort_keys=True, default=str)
    digest = hashlib.sha256(config.encode())
    for weight in encoder.weights:  # without the states of random seeds
        value = keras.ops.convert_to_numpy(weight)
        digest.update(f"{weight.path}{value.dtype}{value.shape}".encode() + value.tobytes())
    return digest.digest()
