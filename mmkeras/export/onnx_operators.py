"""What tf2onnx lacks: erfc, which is in the exact GELU."""

import functools
from typing import Any

import numpy as np


@functools.cache
def teach() -> None:
    """Tells tf2onnx, once, how to write it."""
    from tf2onnx.handler import tf_op

    tf_op.register_handler(_erfc, 13, ["Erfc"], "", {})


def _erfc(graph: Any, node: Any, **kwargs: Any) -> None:
    """1 - erf."""
    from tf2onnx.utils import make_name

    out = node.output[0]
    shape, dtype, inputs = graph.get_shape(out), graph.get_dtype(out), list(node.input)
    graph.remove_node(node.name)
    erf = graph.make_node("Erf", inputs, shapes=[shape], dtypes=[dtype])
    one = graph.make_const(make_name("one"), np.ones((), "float32"))
    parts = [one.output[0], erf.output[0]]
    graph.make_node("Sub", parts, outputs=[out], shapes=[shape], dtypes=[dtype])
