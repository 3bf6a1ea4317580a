"""mmkeras: multimodal learning with Keras and TensorFlow, from raw columns to a served model.

`import mmkeras` loads neither TensorFlow nor Keras: names are looked up where they are first
used, and every layer is registered with Keras the moment Keras is imported, so that
`keras.models.load_model` just works.
"""

import importlib
import importlib.util
import sys
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "Audio": "core",
    "Image": "core",
    "Label": "core",
    "Labels": "core",
    "Model": "training",
    "Modality": "core",
    "Number": "core",
    "Series": "core",
    "Several": "core",
    "Table": "core",
    "Text": "core",
    "Vector": "core",
    "Video": "core",
    "assemble": "assembly",
    "compare": "training",
    "register": "core",
}
_PACKAGES = (
    "alignment",
    "core",
    "data",
    "encoders",
    "evaluation",
    "export",
    "fusion",
    "heads",
    "layers",
    "models",
    "objectives",
    "serving",
    "training",
)

__all__ = sorted([*_NAMES, *_PACKAGES])


def __getattr__(name: str) -> Any:
    """Imports a public name or package on first use."""
    if name in _PACKAGES:
        return importlib.import_module(f"mmkeras.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"mmkeras.{_NAMES[name]}"), name)
    raise AttributeError(
        f"module 'mmkeras' has no attribute {name!r}. It has: {', '.join(__all__)}."
    )


def __dir__() -> list[str]:
    """Lists the public names."""
    return __all__


def _register(module: Any) -> None:
    """Imports every module that registers classes, once Keras and what imports it are loaded."""
    loading = (
        name.startswith("mmkeras.")
        and name != module.__name__
        and getattr(other.__spec__, "_initializing", False)
        for name, other in list(sys.modules.items())
    )
    if "keras" not in sys.modules or any(loading):
        return  # the package that is being loaded calls this again when it is there
    importlib.import_module("mmkeras.models")
    if sys.modules["keras"].backend.backend() == "tensorflow":
        importlib.import_module("mmkeras.training")


if importlib.util.find_spec("keras"):  # a client (mmkeras.serving) needs neither of the two
    import wrapt

    for _name in ("keras", "mmkeras.assembly", *(f"mmkeras.{package}" for package in _PACKAGES)):
        wrapt.register_post_import_hook(_register, _name)
