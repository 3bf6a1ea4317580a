"""The base of the objectives that hide a part of a modality and predict it."""

from typing import Any

from mmkeras.core import checks
from mmkeras.layers.random_masks import positive_rate
from mmkeras.objectives.rows import RowObjective


class Masked(RowObjective):
    """Arguments that these objectives share; a base, itself no objective.

    Args:
        modality: name of what is hidden in part.
        rate: share of the real positions that is hidden, above 0, at most 1.
        cross: whether the other modalities help: what the fusion returns is attended to, and not
            what the encoder of `modality` alone does.
        num_heads: of the attention.
        seed: of the draws in training; None for one from the global seed. Outside of training the
            draw is always the same.
    """

    own: tuple[str, ...] = ()
    """Names of the arguments that a subclass has besides."""

    def __init__(
        self,
        modality: str,
        *,
        rate: float,
        cross: bool = False,
        num_heads: int = 4,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.modality = checks.identifier("`modality`", modality)
        self.rate = positive_rate(rate)
        self.cross = bool(cross)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.seed = seed

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("modality", "rate", "cross", "num_heads", "seed", *self.own)
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
