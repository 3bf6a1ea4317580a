"""The base of the fusions that are made of transformer blocks."""

from collections.abc import Sequence
from typing import Any

import keras

from mmkeras.core import checks
from mmkeras.fusion.base import Fusion
from mmkeras.layers import TransformerBlock


class TransformerFusion(Fusion):
    """Arguments and children that these fusions share; a base, itself no fusion.

    Pre-norm blocks (`TransformerBlock`). Over T tokens one has 8 D^2 weights and takes
    16 T D^2 + 4 T^2 D FLOPs; where T tokens attend to S others, 12 T D^2 + 4 S D^2 + 4 T S D.

    Args:
        num_layers, num_heads: of the blocks.
        intermediate_dim: width of the MLPs; 2 D when None.
        remat: whether the blocks keep no activations (see `TransformerBlock`).
    """

    def __init__(
        self,
        modalities: Sequence[str],
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        intermediate_dim: int | None = None,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(modalities, **kwargs)
        self.num_layers = checks.whole("num_layers", num_layers)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.intermediate_dim = checks.whole(
            "intermediate_dim", intermediate_dim or 2 * self.hidden_dim
        )
        self.remat = bool(remat)

    def block(self, name: str, *, cross: bool = False, widen: int = 1) -> TransformerBlock:
        """Returns a built block for tokens of width `widen` D."""
        block = TransformerBlock(
            self.num_heads,
            widen * self.intermediate_dim,
            dropout=self.dropout,
            remat=self.remat,
            cross=cross,
            name=name,
            dtype=self.dtype_policy,
        )
        block.build((None, None, widen * self.hidden_dim))
        return block

    def layer_norm(self, name: str, *, widen: int = 1) -> keras.layers.LayerNormalization:
        """Returns a built layer norm for tokens of width `widen` D."""
        norm = keras.layers.LayerNormalization(epsilon=1e-6, name=name, dtype=self.dtype_policy)
        norm.build((None, None, widen * self.hidden_dim))
        return norm

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "remat": self.remat,
        }
