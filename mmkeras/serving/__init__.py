"""The client of TensorFlow Serving: NumPy alone for REST, `mmkeras[serving]` for gRPC."""

from mmkeras.serving.client import Client
from mmkeras.serving.media import png, wav

__all__ = ["Client", "png", "wav"]
