"""A Keras model to ONNX, and ONNX Runtime to run it."""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def convert(model: keras.Model, path: str) -> None:
    """Writes the model, with any batch size, to a file.

    Raises:
        ImportError: the extra is not installed.
        ValueError: an operator has no counterpart; its name is in the text.
    """
    _need("tf2onnx")
    runtime = _need("onnxruntime")
    _teach_erfc()
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


@functools.cache
def _teach_erfc() -> None:
    """Tells tf2onnx what erfc is, 1 - erf; it is in the exact GELU, and tf2onnx lacks it."""
    handler = _need("tf2onnx.handler")

    @handler.tf_op("Erfc")
    class Erfc:
        """One minus Erf."""

        @classmethod
        def version_9(cls, graph: Any, node: Any, **kwargs: Any) -> None:
            """Replaces the node."""
            out = node.output[0]
            shape, dtype = graph.get_shape(out), graph.get_dtype(out)
            inputs = list(node.input)
            graph.remove_node(node.name)
            erf = graph.make_node("Erf", inputs, shapes=[shape], dtypes=[dtype])
            one = graph.make_const(f"{erf.name}_one", np.ones((), "float32"))
            parts = [one.output[0], erf.output[0]]
            graph.make_node("Sub", parts, outputs=[out], shapes=[shape], dtypes=[dtype])


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError("ONNX needs the extra `onnx`: pip install 'mmkeras[onnx]'.") from error
