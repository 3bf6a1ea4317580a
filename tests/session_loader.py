"""SavedModels as TF Serving and the C API load them: what every test of an export asks.

    with Loaded(path) as model:                     # once, for many questions
        model.ask(data.raw("train", [0]), "serving_default")
    ask(path, data.raw("train", [0]), "explain")    # once

Values are NumPy arrays or lists of bytes, str or numbers; what is left out is filled in from
`SignatureDef.defaults`. Unlike Python's object loader this one finds a variable that is missing.
"""

from mmkeras.export.answer import Loaded

__all__ = ["Loaded", "ask"]


def ask(path, raw, signature="serving_default"):
    """Output -> array; loads the model for one question."""
    with Loaded(path) as model:
        return model.ask(raw, signature)
