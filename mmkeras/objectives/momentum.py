"""The contrastive objective with a momentum copy and a queue."""

from collections.abc import Sequence
from typing import Any

from mmkeras.core import checks, register
from mmkeras.objectives.base import Objective
from mmkeras.objectives.pairs import Contrastive, mean_of_pairs
from mmkeras.objectives.queue import queue_nce, real


@register
class MomentumContrastive(Contrastive):
    """As `Contrastive`, but against the keys of many earlier batches: MoCo and ALBEF.

    The negatives are not bound to the batch: a copy of the encoders and projections, whose weights
    follow those of the model slowly, embeds every batch, and each modality's newest `queue` keys
    are kept. The loss in training is the mean over the pairs of modalities of
    `mk.objectives.queue_nce`; evaluation has no queue, and takes `mk.objectives.info_nce` of the
    batch, which can be compared with any other model's.

    `mmkeras.Model.compile` makes copy and queue, as weights that are not trained: checkpoints and
    `.keras` files hold them, replicas and workers hold the same, and they change no output and no
    signature. A new `compile` makes them anew. After each step copy = momentum * copy +
    (1 - momentum) * weight, and the step's keys enter the queue (all of the global batch, once);
    an absent modality has no key. The first step begins with copy = weights and an empty queue.

    Deviation from both papers: the copy runs without dropout, with the model's own moving
    statistics.

    Args:
        dim: width of the common space.
        queue: keys kept of each modality; below the number of samples in the data, or a sample's
            own earlier key would stand among its negatives at every step (`fit` raises ValueError
            where it can tell).
        momentum: of the copy, 0 to 1 (ALBEF: 0.995; MoCo: 0.999).
        soft: share of the copy's own similarities in the targets, 0 to 1 (ALBEF: 0.4).
        scale, max_scale, learn_scale, modalities: see `Contrastive`.

    Returns:
        (B, M, dim) float32: unit vectors, zero where a modality is absent.
    """

    def __init__(
        self,
        dim: int = 64,
        queue: int = 1024,
        *,
        momentum: float = 0.995,
        soft: float = 0.0,
        scale: float | None = None,
        max_scale: float = 100.0,
        learn_scale: bool = True,
        modalities: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments; raises ValueError for what is out of range."""
        for other in ("loss", "margin", "negatives", "hardness", "tile"):
            if other in kwargs:
                raise ValueError(
                    "The loss of a queue is mk.objectives.queue_nce, which has no such choice. "
                    f"Received: {other}={kwargs[other]!r}. Leave it out, or use "
                    "mk.objectives.Contrastive."
                )
        super().__init__(
            dim,
            scale=scale,
            max_scale=max_scale,
            learn_scale=learn_scale,
            modalities=modalities,
            **kwargs,
        )
        self.queue = checks.whole("queue", queue)
        self.momentum = checks.real("momentum", momentum, 0.0, 1.0)
        self.soft = checks.real("soft", soft, 0.0, 1.0)

    def queue_loss(
        self,
        outputs: Any,
        y: Any = None,
        weights: Any = None,
        rows: tuple[Any, int] | None = None,
        *,
        keys: Any,
        queue: Any,
    ) -> Any:
        """Returns the loss of a whole batch in training, or of some rows' share in it.

        Args:
            outputs, weights, rows: see `Objective`.
            y: None; the queue knows no classes.
            keys: (N, M, dim), what the copy returns for the batch.
            queue: (M, K, dim); rows of zeros are empty.

        Raises:
            ValueError: there are labels.
        """
        if y is not None:
            raise ValueError(
                "A queue holds keys and not their labels, so that samples of one class cannot be "
                f"positives of each other. Received: a target of the name {self.name!r}. Leave it "
                "out of the data, or use mk.objectives.Contrastive."
            )
        there = real(outputs)
        return mean_of_pairs(
            there,
            lambda i, j, both: queue_nce(
                outputs[:, i],
                outputs[:, j],
                keys=(keys[:, i], keys[:, j]),
                queues=(queue[i], queue[j]),
                scale=self.inverse_temperature(),
                soft=self.soft,
                mask=both,
                weights=weights,
                rows=rows,
            ),
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("dim", "queue", "momentum", "soft", "scale", "max_scale", "learn_scale")
        return {**Objective.get_config(self), **{name: getattr(self, name) for name in names}}
