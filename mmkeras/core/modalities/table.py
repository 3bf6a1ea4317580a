"""Rows of named columns: numbers and categories."""

from dataclasses import dataclass
from typing import ClassVar

from mmkeras.core.modalities.statistics import statistic
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Table(Modality):
    """A row of C named cells -> float32 (C,), mask (C,); numeric columns first, then categorical.

    Numbers are standardised, (raw - mean) / scale. A category becomes its number in the column's
    vocabulary, from 1, as a float; 0 is the bucket of unknown ones. An empty cell is missing by
    itself (its mask is false); the row is absent when every cell is missing. A raw item is C
    strings in the order of `columns`, numbers as decimal text; white space around them is dropped.

    An item with a number beyond 1e9 as the model sees it, standardised or not, is unreadable: its
    products overflow.

    Args:
        numeric, categorical: names of the columns.
        vocabulary_size: largest vocabulary that is learnt per column, the unknown bucket included;
            rarer categories go into that bucket, which is trained only by them.
        mean, scale: per numeric column. Learnt from the training rows when None (a constant column
            gets scale 1).
        vocabularies: per categorical column, its categories; learnt from the training rows when
            None.
    """

    kind: ClassVar[str] = "table"

    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    vocabulary_size: int = 1000
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    vocabularies: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        for name in ("numeric", "categorical"):
            given = getattr(self, name)
            if not isinstance(given, tuple | list) or not all(isinstance(c, str) for c in given):
                raise ValueError(
                    f"`{name}` must hold names of columns. Received: {name}={given!r}. Write e.g. "
                    f"{name}=('height',)."
                )
            self._set(name, tuple(given))
        columns = self.columns
        if not columns or len(set(columns)) != len(columns):
            raise ValueError(
                "A Table must name at least one column, and each once. Received: "
                f"numeric={self.numeric}, categorical={self.categorical}."
            )
        self._whole("vocabulary_size", 2)
        for name in ("mean", "scale"):
            if getattr(self, name) is not None:
                value = statistic(name, getattr(self, name), len(self.numeric), "numeric columns")
                self._set(name, value)
        if self.vocabularies is not None:
            self._set("vocabularies", tuple(tuple(words) for words in self.vocabularies))
            self._check_vocabularies()

    def _check_vocabularies(self) -> None:
        if len(self.vocabularies) != len(self.categorical):
            raise ValueError(
                "`vocabularies` must hold one tuple per categorical column. Received: "
                f"{len(self.vocabularies)} for {len(self.categorical)} columns."
            )
        for name, words in zip(self.categorical, self.vocabularies, strict=True):
            if "" in words or len(set(words)) != len(words):
                raise ValueError(
                    f"The vocabulary of {name!r} must hold each category once, and no empty one "
                    f"(an empty cell is missing). Received: {words}."
                )

    @property
    def columns(self) -> tuple[str, ...]:
        """The C names in the order of the cells."""
        return (*self.numeric, *self.categorical)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Per categorical column of an adapted Table, its ids: vocabulary and unknown bucket."""
        return tuple(1 + len(words) for words in self.vocabularies or ())

    shape = property(lambda self: (len(self.columns),), doc="(C,).")
    raw_shape = property(lambda self: (len(self.columns),), doc="(C,).")
    dtype = property(lambda self: "float32", doc="Standardised numbers, then ids.")
    mask_shape = property(lambda self: (len(self.columns),), doc="(C,): True at cells there.")

    @property
    def adapted(self) -> bool:
        """Has mean, scale and vocabularies for the columns that need them."""
        numbers = not self.numeric or (self.mean is not None and self.scale is not None)
        return numbers and (not self.categorical or self.vocabularies is not None)
