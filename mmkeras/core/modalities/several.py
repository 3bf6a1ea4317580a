"""Several items of one modality per sample."""

from dataclasses import dataclass
from typing import Any, ClassVar

from mmkeras.core.modalities.image import Image
from mmkeras.core.modalities.table import Table
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Several(Modality):
    """Up to K items of one modality in order, e.g. three pictures: (K, *shape), K = `count`.

    A sample that has fewer items has a false mask at the rest. Raw: (K, *raw_shape) of the item,
    a missing one written as the item's own absent value ("" or NaN).

    Args:
        modality: the spec of one item, of any kind but Several and Table; what it learns, it
            learns from all items. Its `augment` acts on every item by itself.
        count: K.
    """

    kind: ClassVar[str] = "several"

    modality: Modality = Image()
    count: int = 2

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if not isinstance(self.modality, Modality) or isinstance(self.modality, Several | Table):
            raise ValueError(
                "`modality` must be the spec of one item, such as mk.Image(size=64), and not "
                "Several itself, nor a Table, whose cells are columns of the source. Received: "
                f"modality={self.modality!r}."
            )
        self._whole("count")

    def get_config(self) -> dict[str, Any]:
        """Returns a JSON-able dict; the item's spec as its own config."""
        return {"kind": self.kind, "modality": self.modality.get_config(), "count": self.count}

    @property
    def augment(self) -> dict[str, dict]:
        """The item's."""
        return getattr(self.modality, "augment", {})

    item = property(lambda self: self.modality, doc="The spec of one item.")
    shape = property(lambda self: (self.count, *self.modality.shape), doc="(K, *shape).")
    dtype = property(lambda self: self.modality.dtype, doc="The item's.")
    mask_shape = property(
        lambda self: (self.count, *self.modality.mask_shape), doc="(K, *mask_shape)."
    )
    raw_shape = property(
        lambda self: (self.count, *self.modality.raw_shape), doc="(K, *raw_shape)."
    )
    raw_dtype = property(lambda self: self.modality.raw_dtype, doc="The item's.")
    adapted = property(lambda self: self.modality.adapted, doc="Whether the item's spec is.")
