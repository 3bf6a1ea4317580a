"""SavedModels that take raw, named, optional inputs, and the proof that they equal Keras."""

from mmkeras.export.parity import ask, check_parity
from mmkeras.export.publish import publish
from mmkeras.export.saved_model import saved_model

__all__ = ["ask", "check_parity", "publish", "saved_model"]
