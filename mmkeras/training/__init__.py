"""Training on TensorFlow: the model class, strategy, precision, seeds and callbacks."""

from mmkeras.training.callbacks import callbacks
from mmkeras.training.model import Model
from mmkeras.training.runtime import precision, seed, strategy
from mmkeras.training.samples import Samples
from mmkeras.training.workers import is_chief

__all__ = ["Model", "Samples", "callbacks", "is_chief", "precision", "seed", "strategy"]
