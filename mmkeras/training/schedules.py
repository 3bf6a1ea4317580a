"""Learning-rate schedules over a known number of steps, with linear warm-up."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register

NAMES = ("constant", "cosine", "linear")


@register
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """From 0 up to `after` in a straight line, then `after` itself.

    Args:
        after: the rate, or a schedule whose step 0 is this one's step `steps`.
        steps: of the warm-up; the rate of step s < `steps` is `after(0) * s / steps`.
    """

    def __init__(self, after: Any, steps: int) -> None:
        """Stores the arguments."""
        super().__init__()
        self.after = after
        self.steps = checks.whole("steps", steps)

    def __call__(self, step: Any) -> Any:
        """Returns the rate of the optimizer step `step`, counted from 0."""
        step = ops.cast(step, "float32")
        later = ops.maximum(step - self.steps, 0.0)
        full = self.after(later) if callable(self.after) else self.after
        return ops.cast(full, "float32") * ops.minimum(step / self.steps, 1.0)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {"after": keras.saving.serialize_keras_object(self.after), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict) -> "Warmup":
        """Makes the schedule from `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["after"]), config["steps"])


def schedule(
    name: str,
    learning_rate: float,
    *,
    steps: int | None = None,
    warmup_steps: int = 0,
    final: float = 0.0,
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns what an optimizer takes as `learning_rate`.

    With w = `warmup_steps`, the rate of step s is `learning_rate * s / w` for s < w (step 0 of a
    warm-up moves nothing), and after that, with p = min((s - w) / (`steps` - w), 1):

        constant    learning_rate
        linear      learning_rate * (1 - (1 - final) * p)
        cosine      learning_rate * (final + (1 - final) * (1 + cos(pi * p)) / 2)

    Args:
        name: "constant", "linear" or "cosine" (Loshchilov & Hutter 2017, without restarts).
        learning_rate: the highest rate, above 0.
        steps: of the whole training, warm-up included: `epochs * data.train(64).steps`. Not
            needed by "constant".
        warmup_steps: below `steps`.
        final: share of `learning_rate` that is left at the end, 0 to 1.

    Raises:
        ValueError: unknown name, or steps that are missing or too few.
    """
    checks.one_of("name", name, NAMES)
    learning_rate = checks.real("learning_rate", learning_rate)
    warmup_steps = checks.whole("warmup_steps", warmup_steps, 0)
    final = checks.real("final", final, 0.0, 1.0)
    if name == "constant":
        return Warmup(learning_rate, warmup_steps) if warmup_steps else learning_rate
    if steps is None or checks.whole("steps", steps) <= warmup_steps:
        raise ValueError(
            f"The schedule {name!r} needs `steps`, of the whole training, above `warmup_steps`. "
            f"Received: steps={steps}, warmup_steps={warmup_steps}. Pass epochs * steps per epoch."
        )
    schedules, left = keras.optimizers.schedules, steps - warmup_steps
    if name == "cosine":
        after = schedules.CosineDecay(learning_rate, left, alpha=final)
    else:
        after = schedules.PolynomialDecay(learning_rate, left, learning_rate * final, power=1.0)
    return Warmup(after, warmup_steps) if warmup_steps else after
