"""LoRA and DoRA on an assembled model: adapt, train, save alone, merge."""

import contextlib
import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkeras.core import checks
from mmkeras.core.identifiers import nearest
from mmkeras.layers import low_rank
from mmkeras.training import private
from mmkeras.training.freezing import changed
from mmkeras.training.optimizers import matches

FORMAT = 1


def lora(
    model: keras.Model,
    patterns: Sequence[str] = ("*/query", "*/value"),
    *,
    rank: int = 8,
    alpha: float | None = None,
    dora: bool = False,
    train: Sequence[str] = (),
) -> list[str]:
    """Gives layers a low-rank change that trains in place of the model; returns their paths.

    LoRA (Hu et al. 2021) or DoRA (Liu et al. 2024), see `mmkeras.layers.low_rank` for the
    formulas. The outputs stay as they were until the first step. Everything else is frozen.

    Args:
        model: not yet compiled, or to be compiled again.
        patterns: `fnmatch` patterns of the paths of Dense, EinsumDense and Embedding layers, e.g.
            "image_backbone/*/query", "fusion/*"; the queries and values of every attention by
            default, as in the paper.
        rank: r.
        alpha: the change counts alpha / r; r when None.
        dora: whether each output has a magnitude of its own.
        train: patterns of the paths of other weights that go on training: those of new parts,
            e.g. `["fusion/*", "answer/*"]`.

    Raises:
        ValueError: a pattern that matches nothing, or layers that have adapters already.
    """
    for name, given in (("patterns", patterns), ("train", train)):
        if isinstance(given, str):
            raise TypeError(f"`{name}` must be a list. Received: {given!r}. Write [{given!r}].")
    layers = _layers(model)
    if _adapted(model):
        raise ValueError(
            f"A model takes adapters once. Received: {model.name!r} has {len(_adapted(model))}. "
            "Call mk.training.merge_adapters(model) first."
        )
    found = sorted({path for p in patterns for path in _match(p, list(layers), "layer")})
    kept = {path for p in train for path in _match(p, [w.path for w in model.weights], "weight")}
    about = {
        "rank": checks.whole("rank", rank),
        "alpha": checks.real("alpha", rank if alpha is None else alpha),
        "dora": bool(dora),
    }
    with _scope(model):
        for path in found:
            with private.unlocked(layers[path]):
                low_rank.adapt(layers[path], **about)
    _freeze_but(model, kept)
    changed(model)
    return found


def merge_adapters(model: keras.Model) -> list[str]:
    """Makes the adapted layers plain again, what they learnt in their kernels; returns the paths.

    Outputs change by rounding alone. What is frozen stays frozen.

    Raises:
        ValueError: the model has no adapters.
    """
    adapted = _checked(model)
    for layer in adapted.values():
        low_rank.plain(layer)
    changed(model)
    return list(adapted)


def save_adapters(model: keras.Model, path: str | os.PathLike) -> Path:
    """Writes the adapters, and whatever else trains, to one small `.npz` file; whole or not at all.

    The file knows the kernels that it belongs to.
    """
    adapted, path = _checked(model), Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"Adapters are saved to a .npz file. Received: {str(path)!r}.")
    weights = {w.path: w for layer in adapted.values() for w in low_rank.own(layer)}
    weights |= {w.path: w for w in model.trainable_weights}
    about = {
        "format": FORMAT,
        **dataclasses.asdict(next(iter(adapted.values())).low_rank),
        "layers": {name: _digest(layer) for name, layer in adapted.items()},
        "weights": list(weights),
    }
    arrays = {str(i): keras.ops.convert_to_numpy(w) for i, w in enumerate(weights.values())}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
    return path


def load_adapters(model: keras.Model, path: str | os.PathLike) -> list[str]:
    """Reads what `save_adapters` wrote; returns the paths of the adapted layers.

    Args:
        model: the same model with the same kernels under the adapters, plain (it is adapted as
            the file says) or adapted in the same way.
        path: the file.

    Raises:
        ValueError: the file belongs to other layers or kernels; nothing is changed then.
    """
    path = Path(path)
    about, arrays = _read(path)
    layers, adapted = _layers(model), _adapted(model)
    for name, digest in about["layers"].items():
        if name not in layers or _digest(layers[name]) != digest:
            why = "has no such layer" if name not in layers else "has another kernel there"
            raise ValueError(
                f"Adapters belong to the weights they were trained on. Received: {path.name}, "
                f"whose layer {name!r} the model {why}. {nearest(name, layers)} Load the same "
                "pretrained weights first."
            )
    settings = {key: about[key] for key in ("rank", "alpha", "dora")}
    held = {name: dataclasses.asdict(layer.low_rank) for name, layer in adapted.items()}
    if held and held != dict.fromkeys(about["layers"], settings):
        raise ValueError(
            f"The model's adapters must be those of the file. Received: {settings} for "
            f"{len(about['layers'])} layers in {path.name}, the model has others. Merge them, or "
            "load into the plain model."
        )
    others = [w for w in about["weights"] if w.rpartition("/")[0] not in about["layers"]]
    _check_shapes(model, others, about["weights"], arrays, path)
    if not held:
        lora(model, list(about["layers"]), **settings, train=others)
    weights = {w.path: w for w in model.weights}
    for i, name in enumerate(about["weights"]):
        weights[name].assign(arrays[i])
    return list(about["layers"])


def _read(path: Path) -> tuple[dict, list]:
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            return about, [file[str(i)] for i in range(len(about["weights"]))]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Adapters are read from what mk.training.save_adapters wrote. Received: "
            f"{str(path)!r}: {error}."
        ) from error


def _check_shapes(
    model: keras.Model, others: Sequence[str], names: Sequence[str], arrays: list, path: Path
) -> None:
    """Raises unless the weights of the file that are no adapters fit those of the model."""
    held = {w.path: tuple(w.shape) for w in model.weights}
    for name in others:
        shape = arrays[names.index(name)].shape
        if held.get(name) != shape:
            raise ValueError(
                f"The weight {name!r} of {path.name} must be one of the model, of shape {shape}. "
                f"Received: {held.get(name, 'none')}. {nearest(name, held)}"
            )


def _layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Path -> layer, of all that can be adapted."""
    found = (layer for layer in private.flatten_layers(model) if low_rank.adaptable(layer))
    return {layer.weights[0].path.rpartition("/")[0]: layer for layer in found}


def _adapted(model: keras.Model) -> dict[str, keras.layers.Layer]:
    return {p: x for p, x in _layers(model).items() if isinstance(x, low_rank.LowRank)}


def _checked(model: keras.Model) -> dict[str, keras.layers.Layer]:
    adapted = _adapted(model)
    if not adapted:
        raise ValueError(
            f"The model must have adapters. Received: {model.name!r} without. Call "
            "mk.training.lora(model, [...]) or load_adapters first."
        )
    return adapted


def _match(pattern: str, names: list[str], what: str) -> list[str]:
    if pattern in names:  # a path as such, whatever characters it has
        return [pattern]
    if not names:
        raise ValueError(f"The model must have a {what} to match {pattern!r}. Received: none.")
    return [names[i] for i in matches(pattern, names)]


def _freeze_but(model: keras.Model, kept: set[str]) -> None:
    """Leaves the adapters and the weights of these paths to train, nothing else."""
    trains = {id(w) for layer in _adapted(model).values() for w in low_rank.own(layer)}
    trains |= {id(w) for w in model.weights if w.path in kept}
    for layer in private.flatten_layers(model):
        if not any(id(w) in trains for w in layer.weights):
            layer.trainable = False
    for weight in model.trainable_weights:
        weight.trainable = id(weight) in trains


def _digest(layer: keras.layers.Layer) -> str:
    """Hash of the kernel under the adapter."""
    value = keras.ops.convert_to_numpy(layer.weights[0])
    return hashlib.sha256(f"{value.dtype}{value.shape}".encode() + value.tobytes()).hexdigest()


@contextlib.contextmanager
def _scope(model: Any) -> Iterator[None]:
    """The strategy that the model was made in, where it has one: new weights belong to it."""
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        yield
