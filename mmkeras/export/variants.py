"""Variants of a model in smaller numbers, published only where they keep its quality.

float32 as trained; bfloat16 and float16: weights and arithmetic of everything but the heads, half
the size (float16 ends at 65,504: where a number may be larger once standardised, take bfloat16);
int8: the weights of dense, einsum-dense and embedding layers, a scale per channel, and their
inputs, a scale per row (Keras' quantisation), the other layers stay float32.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from mmkeras.core import checks
from mmkeras.data import Data
from mmkeras.export.saved_model import saved_model

PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_EXPORT = ("signatures", "top_k", "jit")
_FLOATS = ("float32", "bfloat16", "float16", "mixed_bfloat16", "mixed_float16")
_ERRORS = (keras.metrics.MeanAbsoluteError, keras.metrics.MeanSquaredError)


def variant(
    model: keras.Model,
    data: Data,
    path: str | os.PathLike,
    precision: str,
    *,
    max_loss: float = 0.01,
    split: str = "valid",
    batch_size: int = 64,
    quality: Callable[[keras.Model], Mapping[str, float]] | None = None,
    **export: Any,
) -> dict[str, Any]:
    """Exports a model in another number format, unless that costs too much quality.

    Both models are measured on the same rows. Nothing is written when the variant loses more than
    `max_loss`; the model itself is not changed.

    Args:
        model: what `assemble` returned, trained.
        data: with its modalities and the split to measure on.
        path: version folder, see `mk.export.saved_model`.
        precision: one of `PRECISIONS`.
        max_loss: the most that any figure of the quality may fall. 0.01 is one point of accuracy.
        split: rows that are measured, no training rows.
        batch_size: of the measurement.
        quality: model -> name -> number, higher is better. None: the default metrics of the heads;
            of errors (MAE) the loss is their growth relative to the model's own: 0.01 is 1 %.
        **export: `signatures`, `top_k` and `jit` of `mk.export.saved_model`.

    Returns:
        `{"precision", "split", "before", "after", "lost", "max_loss", "bytes"}`; before, after and
        lost by figure, bytes of the weights by format.

    Raises:
        ValueError: the variant loses more than `max_loss`, with all figures; or wrong arguments.
    """
    checks.one_of("precision", precision, PRECISIONS)
    checks.real("max_loss", max_loss)
    for name in export:
        checks.one_of("argument", name, _EXPORT)
    if Path(path).exists():
        raise ValueError(
            f"An export never overwrites a version. Received: {os.fspath(path)!r} exists. Export "
            "to the next version number."
        )
    changed = convert(model, precision)
    measure = quality or (lambda m: _metrics(m, data, split, batch_size))
    before, after = dict(measure(convert(model))), dict(measure(changed))
    lost = {name: before[name] - after[name] for name in before}
    if quality is None:
        errors = _error_names(model)
        lost |= {n: after[n] / max(before[n], 1e-9) - 1 for n in errors if n in before}
    if not all(value <= max_loss for value in lost.values()):  # also where one is not a number
        figures = ", ".join(f"{n} {before[n]:.4g} -> {after[n]:.4g}" for n in before)
        raise ValueError(
            f"The {precision} variant loses more than max_loss={max_loss} on {split!r}: "
            f"{figures}. Nothing was written. Export bfloat16 or float32, or raise `max_loss` if "
            "that is good enough."
        )
    saved_model(changed, data.modalities, path, data=data, metrics=after, **export)
    return {
        "precision": precision,
        "split": split,
        "before": before,
        "after": after,
        "lost": lost,
        "max_loss": max_loss,
        "bytes": {"before": weight_bytes(model), "after": weight_bytes(changed)},
    }


def convert(model: keras.Model, precision: str | None = None) -> keras.Model:
    """Returns a copy of a model in a number format; None keeps that of every layer.

    Layers whose output is an output of the model stay as they are (heads are float32).
    """
    config = model.get_config()
    if precision in ("float32", "bfloat16", "float16"):
        for layer in config["layers"]:
            if layer["name"] not in model.output_names:
                layer["config"] = _retyped(layer["config"], precision)
    made = type(model).from_config(config)
    made.set_weights(model.get_weights())
    if precision == "int8":
        with warnings.catch_warnings():  # one for every layer that stays as it is
            warnings.simplefilter("ignore")
            made.quantize("int8")
    return made


def weight_bytes(model: keras.Model) -> int:
    """Returns the size of a model's weights."""
    size = {"int8": 1, "bool": 1, "bfloat16": 2, "float16": 2, "float64": 8, "int64": 8}
    return sum(
        int(keras.ops.size(w)) * size.get(keras.backend.standardize_dtype(w.dtype), 4)
        for w in model.weights
    )


def _retyped(config: Any, precision: str) -> Any:
    """Replaces every float policy in a config, nested ones included."""
    if isinstance(config, Mapping):
        if config.get("class_name") == "DTypePolicy" and config["config"]["name"] in _FLOATS:
            return {**config, "config": {**config["config"], "name": precision}}
        if config.get("class_name") == "Orthogonal":  # no kernel in bfloat16; weights are set later
            return keras.initializers.serialize(keras.initializers.Zeros())
        return {key: _retyped(value, precision) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_retyped(value, precision) for value in config)
    return config


def _metrics(model: keras.Model, data: Data, split: str, batch_size: int) -> dict[str, float]:
    """Returns the default metrics of all heads, without those that are losses."""
    model.compile("sgd", **({"jit": False} if hasattr(model, "jit") else {}))
    found = model.evaluate(data.batches(split, batch_size), verbose=0, return_dict=True)
    found = {name: float(value) for name, value in found.items() if not name.endswith("loss")}
    if not found:
        raise ValueError(
            "There is no metric to measure the loss of quality by: the heads have none. Pass "
            "`quality`, a function model -> {name: number}, higher is better."
        )
    return found


def _error_names(model: keras.Model) -> list[str]:
    """Names under which `evaluate` reports metrics that fall when the model is better."""
    names = []
    for layer in model.layers:
        if layer.name in model.output_names and hasattr(layer, "default_metrics"):
            found = [m.name for m in layer.default_metrics() if isinstance(m, _ERRORS)]
            names += [*found, *(f"{layer.name}_{name}" for name in found)]
    return names
