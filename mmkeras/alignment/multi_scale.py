"""Several depths of every encoder, projected into one space."""

from typing import Any

from mmkeras.alignment.base import Alignment
from mmkeras.core import register


@register
class MultiScaleAlignment(Alignment):
    """x W_l + b_l + e_l for every level l of a modality, joined along time.

    The levels are those that the encoder offers (`mmkeras.encoders.levels`, or `levels=` of
    `mmkeras.encoders.pretrained`), in the order of their names, then its tokens. e_l is a learned
    embedding of the level, as in Deformable DETR (Zhu et al. 2021), so that a fusion can tell
    depths apart. A modality without levels has its tokens alone.
    Arguments, call arguments and returns are those of `Alignment`; T is the sum over the levels.
    """

    multi_scale = True

    def build_part(self, name: str, input_dim: int) -> None:
        """Builds the map; its bias is the level's embedding: they are only ever added up."""
        layer = self.dense(name, input_dim, bias_initializer="random_normal")
        setattr(self, f"{name}_map", layer)

    def align(self, name: str, tokens: Any, mask: Any, training: bool) -> Any:
        """Returns the mapped tokens of one level."""
        return getattr(self, f"{name}_map")(tokens)
