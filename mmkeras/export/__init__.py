"""SavedModels that take raw, named, optional inputs, and the proof that they equal Keras."""

from mmkeras.export.about import about
from mmkeras.export.difference import diff
from mmkeras.export.inspection import inspect
from mmkeras.export.parity import ask, check_parity
from mmkeras.export.publish import publish
from mmkeras.export.saved_model import saved_model
from mmkeras.export.tensors import check_tensors, onnx, run_tensors, tflite
from mmkeras.export.variants import variant

__all__ = [
    "about",
    "ask",
    "check_parity",
    "check_tensors",
    "diff",
    "inspect",
    "onnx",
    "publish",
    "run_tensors",
    "saved_model",
    "tflite",
    "variant",
]
