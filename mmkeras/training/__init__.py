"""Training on TensorFlow: the model class, strategy, precision, seeds, callbacks and resume."""

from mmkeras.training.callbacks import callbacks
from mmkeras.training.model import Model
from mmkeras.training.nonfinite import NonFiniteGuard
from mmkeras.training.resume import PREEMPTED, Resume
from mmkeras.training.runtime import precision, seed, strategy
from mmkeras.training.samples import Samples
from mmkeras.training.workers import is_chief

__all__ = [
    "PREEMPTED",
    "Model",
    "NonFiniteGuard",
    "Resume",
    "Samples",
    "callbacks",
    "is_chief",
    "precision",
    "seed",
    "strategy",
]
