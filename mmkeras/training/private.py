"""The private Keras names that mmkeras needs, all of them here, each checked at import.

`_symbolic_build` and `_maybe_symbolic_build` are where `fit` reads a batch to build metrics and
optimizer; `_loss_tracker` is the mean that `fit` logs as "loss". Keras has no public way to any
of them, which is why `setup.py` bounds Keras to the minor version these were tested on.
"""

import keras

NAMES = ("_maybe_symbolic_build", "_symbolic_build", "_get_metrics_result_or_logs")


def check() -> None:
    """Raises ImportError when this Keras lacks a private name that mmkeras builds on."""
    missing = [name for name in NAMES if not hasattr(keras.Model, name)]
    if missing:
        raise ImportError(
            f"mmkeras needs the private Keras names {missing}, which Keras {keras.__version__} "
            "does not have. Install the tested version: pip install 'keras>=3.15.1,<3.16'."
        )


def loss_tracker(model: keras.Model) -> keras.metrics.Mean:
    """Returns the metric that `fit` logs as "loss"."""
    tracker = getattr(model, "_loss_tracker", None)
    if tracker is None:
        raise ImportError(
            f"mmkeras needs `Model._loss_tracker`, which Keras {keras.__version__} does not have "
            "after compile(). Install the tested version: pip install 'keras>=3.15.1,<3.16'."
        )
    return tracker


def build_from_spec(model: keras.Model, element_spec: object) -> None:
    """Builds metrics, losses and optimizer from the spec of a batch, without reading data."""
    model._symbolic_build(data_batch=element_spec)


check()
