"""Training on TensorFlow: the model class, optimizers, strategy, precision, seeds, callbacks."""

from mmkeras.training.adapters import load_adapters, lora, merge_adapters, save_adapters
from mmkeras.training.averaging import AverageWeights
from mmkeras.training.balancing import balance, blending_weights
from mmkeras.training.callbacks import callbacks
from mmkeras.training.compare import compare
from mmkeras.training.features import cache_features, pooled
from mmkeras.training.freezing import freeze, stages, unfreeze
from mmkeras.training.missing import missing_curve
from mmkeras.training.model import Model
from mmkeras.training.multitask import tasks
from mmkeras.training.nonfinite import NonFiniteGuard
from mmkeras.training.optimizers import optimizer
from mmkeras.training.profiling import Profile
from mmkeras.training.resume import PREEMPTED, Resume
from mmkeras.training.runtime import precision, seed, strategy, xla_cache
from mmkeras.training.samples import Samples
from mmkeras.training.schedules import schedule
from mmkeras.training.search import search
from mmkeras.training.teacher import teach
from mmkeras.training.workers import is_chief

__all__ = [
    "PREEMPTED",
    "AverageWeights",
    "Model",
    "NonFiniteGuard",
    "Profile",
    "Resume",
    "Samples",
    "balance",
    "blending_weights",
    "cache_features",
    "callbacks",
    "compare",
    "is_chief",
    "freeze",
    "load_adapters",
    "lora",
    "merge_adapters",
    "missing_curve",
    "optimizer",
    "pooled",
    "precision",
    "save_adapters",
    "schedule",
    "search",
    "seed",
    "stages",
    "strategy",
    "tasks",
    "teach",
    "unfreeze",
    "xla_cache",
]
