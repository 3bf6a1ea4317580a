"""Dynamic weight averaging: a task whose loss falls slowly weighs more in the next epoch."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import checks, register
from mmkeras.training.multitask.method import TaskWeights, state


@register
class WeightAveraging(TaskWeights):
    """ "dwa": K softmax_k(r_k / temperature), r_k = L_k(t - 1) / L_k(t - 2), of epochs' means.

    Liu, Johns and Davison 2019 (arXiv 1803.10704), equation 7, times `loss_weights`. All weigh
    the same in the first two epochs. A task whose ratio is not known, because no row of one of the
    two epochs had a label, has r_k = 1.

    Args:
        temperature: the larger, the more equal; the paper has 2.
        shared: see `TaskWeights`.
    """

    def __init__(self, temperature: float = 2.0, *, shared: str = "last") -> None:
        """Stores the arguments."""
        super().__init__(shared)
        self.temperature = checks.real("temperature", temperature, 1e-3)

    def build(
        self, layer: keras.layers.Layer, tasks: tuple[str, ...], given: list[float], heads: list
    ) -> None:
        """Makes the weights and the losses of the epoch before, 0 where unknown."""
        super().build(layer, tasks, given, heads)
        self.tasks = tasks
        self.average = state(layer, "average", [1.0] * len(tasks))
        self.last = state(layer, "last_losses", [0.0] * len(tasks))

    def weights(self) -> Any:
        """Returns given times average."""
        return self.given * tf.convert_to_tensor(self.average)

    def callbacks(self, given: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Returns what weighs anew at the end of every epoch."""
        return [_Weigh(self)]

    def weigh(self, logs: Mapping[str, float]) -> None:
        """Takes the losses of an epoch, and sets the weights of the next."""
        now = np.array([logs[f"{task}_loss"] for task in self.tasks], np.float64)
        before = keras.ops.convert_to_numpy(self.last).astype(np.float64)
        if before.any():
            self.average.assign(averaged(before, now, self.temperature))
        self.last.assign(now)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"temperature": self.temperature, **super().get_config()}


def averaged(before: np.ndarray, now: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the weights (K,) after two epochs with these losses (K,)."""
    known = (before > 0.0) & (now > 0.0) & np.isfinite(before) & np.isfinite(now)
    ratio = np.where(known, now, 1.0) / np.where(known, before, 1.0)
    raw = np.exp((ratio - ratio.max()) / temperature)
    return len(raw) * raw / raw.sum()


class _Weigh(keras.callbacks.Callback):
    """Weighs the tasks at the end of every epoch."""

    def __init__(self, method: WeightAveraging) -> None:
        super().__init__()
        self.method = method

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Lets the method read the logs."""
        self.method.weigh(logs or {})
