"""Target specs: what a column of truth means, and the classes learnt from the training rows."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Target:
    """What every target declares.

    Attributes:
        kind: its name.
        dtype: of its truth.
        optional: whether rows may lack it: empty cells, None or NaN. The truth of a batch then has
            a bool mask (B,) beside it, under NAME_mask, and `mmkeras.Model` learns from, and
            scores, the rows that have it.
    """

    kind: ClassVar[str] = ""
    optional: ClassVar[bool] = False
    dtype: ClassVar[str] = "float32"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample's truth, once the classes are known."""
        return ()

    def get_config(self) -> dict[str, Any]:
        """Returns a JSON-able dict."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    def replace(self, **changes: Any) -> "Target":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def _set_classes(self) -> None:
        if self.classes is not None:
            classes = tuple(str(c) for c in self.classes)
            if len(classes) < 2 or len(set(classes)) != len(classes):
                raise ValueError(
                    f"`classes` must hold at least two different names. Received: {classes}."
                )
            object.__setattr__(self, "classes", classes)


@dataclass(frozen=True)
class Label(Target):
    """One class out of several -> int32 index.

    Args:
        classes: the names by index; the sorted names of the training rows when None.
        optional: whether rows may lack it; see `Target`.
    """

    kind: ClassVar[str] = "label"
    dtype: ClassVar[str] = "int32"
    classes: tuple[str, ...] | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        """Checks the classes."""
        self._set_classes()


@dataclass(frozen=True)
class Labels(Target):
    """Any number of classes -> float32 multi-hot (number of classes,).

    Args:
        classes: the names by index; the sorted names of the training rows when None.
        separator: between the names of one cell, when cells are strings and not lists.
        optional: whether an empty cell means that the row lacks it (see `Target`), and not that
            none of the classes apply, which then is an empty list.
    """

    kind: ClassVar[str] = "labels"
    classes: tuple[str, ...] | None = None
    separator: str = "|"
    optional: bool = False

    def __post_init__(self) -> None:
        """Checks the classes."""
        self._set_classes()

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of classes,)."""
        return (len(self.classes),)


@dataclass(frozen=True)
class Number(Target):
    """One number to regress -> float32 scalar.

    Args:
        optional: whether rows may lack it; see `Target`.
    """

    kind: ClassVar[str] = "number"
    optional: bool = False


KINDS = {cls.kind: cls for cls in (Label, Labels, Number)}
