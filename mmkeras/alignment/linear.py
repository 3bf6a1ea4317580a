"""One linear map per modality."""

from typing import Any

from mmkeras.alignment.base import Alignment
from mmkeras.core import register


@register
class LinearAlignment(Alignment):
    """x W_m + b_m: the projection heads of CLIP (Radford et al. 2021), with a bias.

    Arguments, call arguments and returns are those of `Alignment`.
    """

    def build_part(self, name: str, input_dim: int) -> None:
        """Builds W and b."""
        setattr(self, f"{name}_map", self.dense(name, input_dim))

    def align(self, name: str, tokens: Any, mask: Any, training: bool) -> Any:
        """Returns the mapped tokens."""
        return getattr(self, f"{name}_map")(tokens)
