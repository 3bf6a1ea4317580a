"""What every modality spec is: one frozen, JSON-able declaration of an input."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mmkeras.core import checks
from mmkeras.core.identifiers import nearest


@dataclass(frozen=True)
class Modality:
    """What every modality declares.

    Attributes:
        kind: name of the kind in configs and encoder tables.
        raw_dtype, raw_shape: one raw item as a signature takes it (without the batch axis).
        shape, dtype: the decoded value, without the batch axis.
        mask_shape: `()` for a modality without time, `(T,)` for a sequence.
        adapted: whether everything that is learnt from training rows is there.
    """

    kind: ClassVar[str] = ""
    augmentations: ClassVar[tuple[str, ...]] = ()
    raw_dtype: ClassVar[str] = "string"

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw item; `()` is one string."""
        return ()

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of one sample's mask."""
        return ()

    @property
    def item(self) -> "Modality":
        """The spec of one item of a column: of Several the inner one, else this one."""
        return self

    @property
    def adapted(self) -> bool:
        """Whether nothing is left to learn from training rows."""
        return True

    def get_config(self) -> dict[str, Any]:
        """Returns a JSON-able dict that `core.spec.from_config` turns back into an equal spec."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    def replace(self, **changes: Any) -> "Modality":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _whole(self, name: str, minimum: int = 1) -> None:
        self._set(name, checks.whole(name, getattr(self, name), minimum))

    def _real(self, name: str, minimum: float) -> None:
        self._set(name, checks.real(name, getattr(self, name), minimum))

    def _check_augment(self) -> None:
        if not isinstance(self.augment, Mapping):
            raise ValueError(
                "`augment` must be a dict of name -> arguments. Received: "
                f"augment={self.augment!r}. Write e.g. {{{self.augmentations[0]!r}: {{}}}}."
            )
        augment = {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in (given or {}).items()}
            for name, given in self.augment.items()
        }
        for name in augment:
            if name not in self.augmentations:
                raise ValueError(
                    f"Unknown {self.kind} augmentation {name!r}. "
                    f"{nearest(name, self.augmentations)}"
                )
        self._set("augment", augment)
