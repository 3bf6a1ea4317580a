"""What tf2onnx lacks: erfc of the exact GELU, and Fourier transforms read as two real parts."""

import functools
from typing import Any

import numpy as np


@functools.cache
def teach() -> None:
    """Tells tf2onnx, once, how to write these operators."""
    from tf2onnx.handler import tf_op

    for operator, write in (("Erfc", _erfc), ("RFFT", _rfft), ("IRFFT", _irfft)):
        tf_op.register_handler(write, 13, [operator], "", {})
    tf_op.register_handler(lambda *args, **kwargs: None, 13, ["Complex"], "", {})


def _erfc(graph: Any, node: Any, **kwargs: Any) -> None:
    """1 - erf."""
    erf = graph.make_node("Erf", list(node.input))
    _replace(graph, node, "Sub", [_constant(graph, np.ones(())), erf.output[0]])


def _rfft(graph: Any, node: Any, **kwargs: Any) -> None:
    """Two matrix products, for those who read the real and the imaginary part."""
    size = _size(node)
    angle = 2 * np.pi * np.outer(np.arange(size), np.arange(size // 2 + 1)) / size
    matrices = {"Real": np.cos(angle), "Imag": -np.sin(angle)}
    for part in graph.find_output_consumers(node.output[0]):
        matrix = _constant(graph, matrices[part.type])
        graph.replace_inputs(part, [node.input[0], matrix])
        part.attr.clear()
        part.type, part.skip_conversion = "MatMul", True


def _irfft(graph: Any, node: Any, **kwargs: Any) -> None:
    """The sum of two matrix products, of a `Complex` of two real parts."""
    size = _size(node)
    rows = np.arange(size // 2 + 1)
    weight = np.where((rows == 0) | (2 * rows == size), 1, 2)[:, None] / size
    angle = 2 * np.pi * np.outer(rows, np.arange(size)) / size
    parts = [
        graph.make_node("MatMul", [part, _constant(graph, weight * matrix)]).output[0]
        for part, matrix in zip(node.inputs[0].input, (np.cos(angle), -np.sin(angle)), strict=True)
    ]
    _replace(graph, node, "Add", parts)


def _size(node: Any) -> int:
    return int(np.ravel(node.inputs[1].get_tensor_value())[0])


def _constant(graph: Any, value: np.ndarray) -> str:
    from tf2onnx.utils import make_name

    return graph.make_const(make_name("constant"), value.astype("float32")).output[0]


def _replace(graph: Any, node: Any, kind: str, inputs: list[str]) -> None:
    out = node.output[0]
    shape, dtype = graph.get_shape(out), graph.get_dtype(out)
    graph.remove_node(node.name)
    graph.make_node(kind, inputs, outputs=[out], shapes=[shape], dtypes=[dtype])
