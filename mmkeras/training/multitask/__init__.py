"""Ways to weigh the losses of several heads, as switches of `Model.compile`."""

from typing import Any

from mmkeras.core.identifiers import resolve
from mmkeras.training.multitask.averaging import WeightAveraging
from mmkeras.training.multitask.balanced import balanced
from mmkeras.training.multitask.gradnorm import GradNorm
from mmkeras.training.multitask.method import TaskWeights
from mmkeras.training.multitask.pcgrad import PCGrad
from mmkeras.training.multitask.uncertainty import Uncertainty

METHODS = {
    "dwa": WeightAveraging,
    "fixed": TaskWeights,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
    "uncertainty": Uncertainty,
}

__all__ = ["METHODS", "TaskWeights", "balanced", "tasks"]


def tasks(name: Any, **options: Any) -> TaskWeights:
    """Returns a way to weigh tasks, for `model.compile(tasks=...)`, which also takes its name.

    A task is an output with a loss; an objective (`mk.objectives`) is none and keeps its weight
    of 1. Every way logs, in `History`, TensorBoard and the progress bar, in training:

        fine_weight         by what the loss of the head "fine" is multiplied
        fine_gradient_norm  norm of the gradient of its loss, unweighted, with respect to shared
                            weights, summed over the replicas
        coarse_fine_cosine  cosine of the gradients of both, in the order of the model's outputs
                            (that of the alphabet); below 0 the tasks are in conflict

    beside the `fine_loss` that Keras logs. `loss` and `val_loss` stay the sums with
    `loss_weights`, whatever is minimised, to compare runs. What a way has to remember are weights
    of the compiled model: checkpoints and `.keras` files hold them, and `load_model(...,
    compile=False)` leaves them away. One device equals several, and micro-batches the batch.

    A task that no row of a batch has a label for (`mk.Label(optional=True)`) takes no part in the
    step.

    Args:
        name: "fixed" (`TaskWeights`), "uncertainty" (`Uncertainty`), "gradnorm" (`GradNorm`), "dwa"
            (`WeightAveraging`), "pcgrad" (`PCGrad`), or what this returned, which is returned.
        **options: of the way.

    Raises:
        ValueError: an unknown name, or an option that is out of range.
    """
    if isinstance(name, TaskWeights) and not options:
        return name
    method, overrides = resolve(name, METHODS, "way to weigh tasks")
    return method(**{**overrides, **options})
