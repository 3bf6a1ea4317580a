"""What several fusions of one model, each at a level of its own, say together."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import zero_masked

LEVELS = ("features", "tokens", "pooled", "decisions")
"""Where a fusion may stand, from the raw values to the heads."""


@register
class HybridFusion(keras.layers.Layer):
    """pooled = b + sum_l W_l p_l, p_l the pooled vector of the fusion at level l.

    This is a dense layer on the concatenation of the p_l: "hybrid fusion" in the sense of Atrey
    et al. 2010 (doi 10.1007/s00530-010-0182-0), early and late fusion side by side. The tokens
    t_l of the levels become W_l t_l + b and stand side by side, each with its mask.

    With a fusion of decisions (see `mmkeras.fusion.decisions`) among them, the tokens are its
    h_1, ..., h_M and, as one decider more, `pooled`, which is always there: a `Decision` head
    combines what M modalities and their fusion decide. That is the pseudo-view of ETMC (Han et al.
    2022, arXiv 2204.11423), here for any rule of combination.

    `assemble` makes one of a list of fusions. It has no absent tokens: its inputs are fusions,
    whose every sample has a valid token.

    Cost: D sum_l D_l + D weights; 2 D sum_l D_l (1 + T_l) FLOPs, without tokens where decisions
    are combined.

    Args:
        levels: two or more of `LEVELS`; read, and joined, in the order of `LEVELS`.
        hidden_dim: D; that of the decisions, if they are there.

    Call arguments:
        inputs: level -> what its fusion returns, `{"tokens": (B, T_l, D_l), "mask": bool (B, T_l),
            "pooled": (B, D_l)}`.

    Returns:
        `{"tokens": (B, T, D), "mask": bool (B, T), "pooled": (B, D)}`, T = sum_l T_l, or M + 1.
    """

    def __init__(self, levels: Sequence[str], *, hidden_dim: int = 64, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        for level in levels:
            checks.one_of("levels", level, LEVELS)
        self.levels = tuple(level for level in LEVELS if level in levels)
        if not 1 < len(levels) == len(self.levels):
            raise ValueError(
                "A hybrid has fusions at two or more levels, one at each. Received: "
                f"{tuple(levels)}. A single fusion needs no hybrid."
            )
        self.hidden_dim = checks.whole("hidden_dim", hidden_dim)

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds a projection per level that is mixed, and the bias."""
        deciders = input_shape.get("decisions")
        if deciders is not None and deciders["tokens"][-1] != self.hidden_dim:
            raise ValueError(
                "The fused vector decides beside the modalities and must be as wide. Received: "
                f"hidden_dim={self.hidden_dim}, decisions {deciders['tokens']}. Give both the same."
            )
        self.projections = {}
        for level in self._mixed:
            self.projections[level] = keras.layers.Dense(
                self.hidden_dim,
                use_bias=False,
                name=f"{level}_projection",
                dtype=self.dtype_policy,
            )
            self.projections[level].build(input_shape[level]["tokens"])
        self.bias = self.add_weight(shape=(self.hidden_dim,), initializer="zeros", name="bias")

    @property
    def _mixed(self) -> list[str]:
        return [level for level in self.levels if level != "decisions"]

    def call(self, inputs: Mapping[str, Mapping[str, Any]]) -> dict:
        """Returns the tokens, their mask and the pooled vector."""
        mixed, bias = self._mixed, ops.cast(self.bias, self.compute_dtype)
        pooled = sum(self.projections[level](inputs[level]["pooled"]) for level in mixed) + bias
        if "decisions" in self.levels:
            tokens, mask = inputs["decisions"]["tokens"], inputs["decisions"]["mask"]
            tokens = ops.concatenate([tokens, pooled[:, None]], axis=1)
            mask = ops.concatenate([mask, ops.ones_like(mask[:, :1])], axis=1)
            return {"tokens": tokens, "mask": mask, "pooled": pooled}
        tokens = [self.projections[level](inputs[level]["tokens"]) + bias for level in mixed]
        mask = ops.concatenate([inputs[level]["mask"] for level in mixed], axis=1)
        tokens = zero_masked(ops.concatenate(tokens, axis=1), mask)
        return {"tokens": tokens, "mask": mask, "pooled": pooled}

    def compute_output_spec(self, inputs: Mapping[str, Mapping[str, Any]]) -> dict:
        """(B, T, D), (B, T) and (B, D)."""
        if "decisions" in self.levels:
            lengths = [inputs["decisions"]["tokens"].shape[1], 1]
        else:
            lengths = [inputs[level]["tokens"].shape[1] for level in self.levels]
        batch = inputs[self.levels[0]]["pooled"].shape[0]
        time = None if None in lengths else sum(lengths)
        return {
            "tokens": keras.KerasTensor((batch, time, self.hidden_dim), self.compute_dtype),
            "mask": keras.KerasTensor((batch, time), "bool"),
            "pooled": keras.KerasTensor((batch, self.hidden_dim), self.compute_dtype),
        }

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "levels": list(self.levels),
            "hidden_dim": self.hidden_dim,
        }
