"""The base of objectives that are a mean over what single rows hold."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.objectives.base import Objective


class RowObjective(Objective):
    """Returns (B, 2) float32 per batch: the sum of a row's losses, and how many they are.

    The loss is the sum of all sums over the sum of all counts: the mean over whatever is counted
    (masked words, hidden patches, pairs) in the global batch; zero where nothing is. A row in
    which nothing is counted has the sum zero, whatever stands behind its masks.
    """

    def batch_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
    ) -> Any:
        """Returns the loss of a whole batch, or of some rows' share in it; see `Objective`."""
        sums, counts = outputs[:, 0], outputs[:, 1]
        if weights is not None:
            sums = sums * ops.cast(weights, "float32")
        if rows is not None:
            sums = ops.slice(sums, [rows[0]], [rows[1]])
        return ops.sum(sums) / ops.maximum(ops.stop_gradient(ops.sum(counts)), 1.0)

    def compute_output_spec(self, given: Mapping[str, Any], training: bool = False) -> Any:
        """(B, 2) float32."""
        return keras.KerasTensor((self.batch_of(given), 2), "float32")

    def batch_of(self, given: Mapping[str, Any]) -> Any:
        """The number of rows, of what `call` is given."""
        return given["tokens"].shape[0]


def summed(losses: Any, counted: Any) -> Any:
    """Sums of the losses that count, and their numbers.

    Args:
        losses: (B, T).
        counted: bool (B, T).

    Returns:
        (B, 2) float32.
    """
    each = ops.where(counted, ops.cast(losses, "float32"), 0.0)
    return ops.stack([ops.sum(each, 1), ops.sum(ops.cast(counted, "float32"), 1)], axis=1)
