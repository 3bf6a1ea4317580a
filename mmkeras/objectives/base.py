"""The base of objectives: parts of a model whose loss is of the whole batch and not of a row."""

from collections.abc import Sequence
from typing import Any

import keras

from mmkeras.core import checks


class Objective(keras.layers.Layer):
    """Reads the encoded modalities, before the fusion, and judges a batch as a whole.

    Given to `assemble` among the heads. `mmkeras.Model` adds `batch_loss` of the global batch to
    the loss and logs it as `NAME_loss`: on several replicas of the outputs of all of them, with
    the gradient that one device with the whole batch has; with `accumulate_steps` of all
    micro-batches together (gradient caching, Gao et al. 2021, arXiv 2101.06983).

    An objective is float32. What it returns is an output of the model. One that reads something
    else than the encoders defines `connect`.

    One with `of` set to the name of a head reads what that says, (B, ...), and no encoder.
    One with `no_label` set gets that as the truth of rows without one; others need all or none.

    Args:
        modalities: names, in the order of the outputs; `assemble` fills in all of the model's
            when None.

    Call arguments:
        encoded: `{name: {"tokens": (B, T_m, D_m), "mask": bool (B, T_m)}}`.

    A subclass defines `call` and `batch_loss(outputs, y=None, weights=None, rows=None)`:
        outputs: of the whole batch (N, ...).
        y, weights: truth (N, ...) and sample weights (N,) of the output, where the data has them.
        rows: (start, size): only those rows' share of the loss is asked for; the shares add up.
    """

    of: str | None = None
    no_label: int | None = None

    def __init__(self, modalities: Sequence[str] | None = None, **kwargs: Any) -> None:
        """Stores the names."""
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.modalities = None if modalities is None else checks.modality_names(modalities)

    @property
    def halved(self) -> tuple[str, ...]:
        """Names of the modalities whose encoders `connect` enters in the middle."""
        return ()

    def connect(self, parts: Any) -> Any:
        """Returns the symbolic output, from the parts of the model that is being made.

        Args:
            parts: `mmkeras.models.parts.Parts`. Reads the encoders; a subclass may run them again
                on other inputs, or the fusion, and call layers of its own before itself.
        """
        return self(parts.encoded)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "modalities": self.modalities}
