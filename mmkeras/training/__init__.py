"""Training on TensorFlow: the model class, strategy, precision, seeds and callbacks."""

from mmkeras.training.callbacks import callbacks
from mmkeras.training.model import Model
from mmkeras.training.runtime import precision, seed, strategy
from mmkeras.training.samples import Samples

__all__ = ["Model", "Samples", "callbacks", "precision", "seed", "strategy"]
