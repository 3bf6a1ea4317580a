"""A Keras model to TFLite, and LiteRT to run it."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def convert(model: keras.Model, path: str) -> None:
    """Writes the model to a file with built-in operators alone, for any number of samples.

    For one at a time where a layer is recurrent, or does not convert otherwise.

    Raises:
        ValueError: an operator has no counterpart; its name is in the text.
    """
    if any(getattr(layer, "quantization_mode", None) for layer in model._flatten_layers()):
        raise ValueError(
            "The model does not convert to TFLite. Received: int8 weights. Convert the float32 "
            "model, or serve the SavedModel; docs/formats.md lists what converts."
        )
    inner = _with_float_inputs(model)
    recurrent = any(isinstance(layer, keras.layers.RNN) for layer in inner._flatten_layers())
    try:
        content = _converted(model, inner, 1 if recurrent else None)
    except ValueError:
        content = _converted(model, inner, 1)
    Path(path).write_bytes(content)


def _converted(model: keras.Model, inner: keras.Model, rows: int | None) -> bytes:
    specs = {
        name: tf.TensorSpec((rows, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in model.input.items()
    }

    def answer(x: dict) -> dict:
        x = {name: tf.cast(value, inner.input[name].dtype) for name, value in x.items()}
        return inner(x, training=False)

    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(inner)
        archive.add_endpoint("serving_default", answer, input_signature=[specs])
        archive.write_out(folder, verbose=False)
        try:
            return tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        except Exception as error:  # the converter raises several kinds of its own
            raise ValueError(
                f"The model does not convert to TFLite. Received: {_reason(str(error))}. Choose "
                "other layers, or serve the SavedModel; docs/formats.md lists what converts."
            ) from error


def run(path: str, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs for B samples, one after the other where the file takes one."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError("LiteRT needs the extra `lite`: pip install 'mmkeras[lite]'.") from error
    runner = Interpreter(path).get_signature_runner("serving_default")
    details = runner.get_input_details()
    wanted = sorted(details)
    missing = sorted(set(wanted) - set(x))
    if missing:
        raise ValueError(f"The model needs the inputs {wanted}. Missing: {missing}.")
    if all(part["shape_signature"][0] == -1 for part in details.values()):
        return runner(**{name: x[name] for name in wanted})
    count = len(x[wanted[0]])
    rows = [runner(**{name: x[name][i : i + 1] for name in wanted}) for i in range(count)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _with_float_inputs(model: keras.Model) -> keras.Model:
    """Returns the model with float32 in place of uint8: TFLite has no masking of bytes."""
    made = type(model).from_config(_floats(model.get_config()))
    made.set_weights(model.get_weights())
    return made


def _floats(config: Any) -> Any:
    if isinstance(config, Mapping):
        made = {key: _floats(value) for key, value in config.items()}
        if made.get("class_name") == "InputLayer" and made["config"]["dtype"] == "uint8":
            made["config"]["dtype"] = "float32"
        return made
    if isinstance(config, list | tuple):
        return type(config)(_floats(value) for value in config)
    return config


def _reason(text: str) -> str:
    """The operators that the converter names, or the start of what it says."""
    found = re.findall(r"TF (?:Select|Custom) ops: (.*)", text)
    return f"operators without a counterpart: {found[0]}" if found else text[:300]
