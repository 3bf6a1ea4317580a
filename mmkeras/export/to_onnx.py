"""A Keras model to ONNX, and ONNX Runtime to run it."""

import importlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from mmkeras.export import onnx_operators


def convert(model: keras.Model, path: str) -> None:
    """Writes the model, with any batch size, to a file.

    Raises:
        ImportError: the extra is not installed.
        ValueError: an operator has no counterpart; its name is in the text.
    """
    _need("tf2onnx")
    runtime = _need("onnxruntime")
    onnx_operators.teach()
    specs = {
        name: keras.InputSpec(dtype=tensor.dtype, shape=tensor.shape, name=name)
        for name, tensor in model.input.items()
    }
    try:
        model.export(path, format="onnx", verbose=False, input_signature=[specs])
        runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # converter and runtime raise several kinds of their own
        raise ValueError(
            f"The model does not convert to ONNX. Received: {str(error)[:300]}. Choose other "
            "layers, or serve the SavedModel; docs/formats.md lists what converts."
        ) from error


def run(path: str, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs for a batch."""
    session = _need("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = [given.name for given in session.get_inputs()]
    missing = sorted(set(wanted) - set(x))
    if missing:
        raise ValueError(f"The model needs the inputs {wanted}. Missing: {missing}.")
    names = [out.name for out in session.get_outputs()]
    return dict(zip(names, session.run(None, {n: x[n] for n in wanted}), strict=True))


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError("ONNX needs the extra `onnx`: pip install 'mmkeras[onnx]'.") from error
