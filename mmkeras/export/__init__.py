"""SavedModels that take raw, named, optional inputs, and the proof that they equal Keras."""

from mmkeras.export.about import about
from mmkeras.export.difference import diff
from mmkeras.export.inspection import inspect
from mmkeras.export.parity import ask, check_parity
from mmkeras.export.saved_model import saved_model

__all__ = [
    "about",
    "ask",
    "check_parity",
    "diff",
    "inspect",
    "saved_model",
]
