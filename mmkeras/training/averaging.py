"""The equal average of the weights over epochs."""

import keras
import numpy as np

from mmkeras.core import checks


class AverageWeights(keras.callbacks.Callback):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights at epoch ends.

    When training ends, the trainable weights become the mean of what they were at the ends of
    the epochs from `start_epoch` on; validation on the way sees the weights themselves. Train
    with a constant or cyclic rate in the averaged part. Moving statistics (batch normalisation)
    are left as they are: where a model has them, run a few batches with training=True afterwards.
    One instance belongs to one training; `average` and `count` are its whole state.

    Args:
        start_epoch: the first epoch that counts, from 0.

    Attributes:
        average: list of arrays in the order of `model.trainable_variables`; None before the
            first.
        count: epochs averaged so far.
    """

    def __init__(self, start_epoch: int = 0) -> None:
        """Starts with no average."""
        super().__init__()
        self.start_epoch = checks.whole("start_epoch", start_epoch, 0)
        self.average: list[np.ndarray] | None = None
        self.count = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Refuses a training that could not be averaged."""
        optimizer = self.model.optimizer
        if getattr(getattr(optimizer, "inner_optimizer", optimizer), "use_ema", False):
            raise ValueError(
                "Average the weights in one way. Received: AverageWeights and an optimizer with "
                "`ema`, whose average `fit` puts into the model at its end. Leave one out."
            )
        if self.start_epoch >= self.params.get("epochs", np.inf):
            raise ValueError(
                f"`start_epoch` must lie below the number of epochs. Received: {self.start_epoch} "
                f"of {self.params['epochs']}. Epochs are counted from 0."
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Takes the weights into the average."""
        if epoch < self.start_epoch:
            return
        now = [keras.ops.convert_to_numpy(v) for v in self.model.trainable_variables]
        self.count += 1
        if self.average is None:
            self.average = now
        else:
            self.average = [
                a + (w - a) / self.count for a, w in zip(self.average, now, strict=True)
            ]

    def on_train_end(self, logs: dict | None = None) -> None:
        """Puts the average into the model."""
        for variable, value in zip(
            self.model.trainable_variables, self.average or [], strict=False
        ):
            variable.assign(value)
