"""The truth of the batch that is being learned, for heads with losses beyond that of their output.

A head that makes several decisions wants each of them to be right, but Keras hands the truth to
the loss of the output alone. `mmkeras.Model` says it here around the forward pass of training and
of evaluation; everywhere else (in `predict`, in an export, in a plain `keras.Model`) there is
none, and such a head has no further loss.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_BATCH = threading.local()  # replicas are threads


@contextmanager
def batch_truth(y: Any, weights: Any = None) -> Iterator[None]:
    """Says the truth of the batch whose forward pass runs inside.

    Args:
        y: truth by output, or of the only output.
        weights: sample weights (B,) likewise, or None.
    """
    before = getattr(_BATCH, "held", None)
    _BATCH.held = (y, weights)
    try:
        yield
    finally:
        _BATCH.held = before


def truth_of(output: str) -> tuple[Any, Any] | None:
    """Returns `(y, weights)` of an output, or None where no truth is known."""
    held = getattr(_BATCH, "held", None)
    if held is None:
        return None
    y, weights = (part.get(output) if isinstance(part, Mapping) else part for part in held)
    return None if y is None else (y, weights)
