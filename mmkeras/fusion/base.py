"""The base of every fusion: reads modalities in declared order and enforces the mask contract.

A fusion of your own is a subclass with `fuse`, with `build_fusion` where it has weights, and with
`output_length` where it does not return one token per modality:

    @mk.register
    class AverageFusion(mk.fusion.Fusion):
        '''Average of the modalities' means.'''

        def fuse(self, tokens, masks, present, training):
            means = [masked_mean(tokens[m], masks[m]) for m in self.modalities]
            pooled = sum(means) / len(means)
            return {"tokens": pooled[:, None], "mask": keras.ops.ones_like(present[:, :1]),
                    "pooled": pooled}

        def output_length(self, lengths):
            return 1
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks
from mmkeras.layers import AbsentToken
from mmkeras.layers.masking import zero_masked


class Fusion(keras.layers.Layer):
    """Base layer: checks, cuts off masked content, projects to one width, adds absent tokens.

    Contract, held for every registered fusion by `tests/fusion/test_contract.py`: what stands
    behind a false mask changes no output bit; all modalities absent gives a finite, learned
    output; every weight gets gradient; the order of the caller's dict does not matter.

    Args:
        modalities: names in declared order.
        hidden_dim: common token width D after the projection.
        dropout: rate on hidden activations.

    Call arguments:
        inputs: `{name: {"tokens": (B, T_m, D_m), "mask": bool (B, T_m)}}`.

    Returns:
        `{"tokens": (B, T', D), "mask": bool (B, T'), "pooled": (B, D)}`; at least one token of a
        sample is valid, a learned one when every modality is absent.

    A subclass defines `fuse(tokens, masks, present, training)`, which returns the same:
        tokens: (B, T_m + 1, D) each; zero behind its mask.
        masks: bool (B, T_m + 1) each; the last position is true where the modality is absent.
        present: bool (B, M), M in declared order.
        training: whether dropout acts.

    Costs in the docstrings of the fusions are leading terms beside the projections of this class:
    weights of the matrices, and FLOPs per sample (a multiplication with its addition is two), with
    M modalities of T tokens each, and L layers whose MLPs are 2 D wide.
    """

    def __init__(
        self, modalities: Sequence[str], *, hidden_dim: int = 64, dropout: float = 0.0, **kwargs
    ) -> None:
        """Stores the arguments; raises TypeError for a subclass without `fuse`."""
        if not hasattr(self, "fuse"):
            raise TypeError(
                f"A fusion must define `fuse`. Received: {type(self).__name__}, which does not. "
                "See the example in mmkeras/fusion/base.py."
            )
        super().__init__(**kwargs)
        self.modalities = checks.modality_names(modalities)
        self.hidden_dim = checks.whole("hidden_dim", hidden_dim)
        self.dropout = checks.real("dropout", dropout, 0.0, 1.0)

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds the projections and absent tokens, then `build_fusion`."""
        check_shapes(self.modalities, input_shape)
        self.projections, self.absent_tokens = {}, {}
        for m in self.modalities:
            self.projections[m] = self.dense(f"{m}_projection", input_shape[m]["tokens"][-1])
            self.absent_tokens[m] = AbsentToken(name=f"{m}_absent", dtype=self.dtype_policy)
            self.absent_tokens[m].build((None, None, self.hidden_dim))
        self.drop = keras.layers.Dropout(self.dropout, name="dropout", dtype=self.dtype_policy)
        self.build_fusion()

    def build_fusion(self) -> None:
        """Builds the children of a subclass; all sequences are `hidden_dim` wide by then."""

    def dense(
        self, name: str, input_dim: int, units: int | None = None, **kwargs: Any
    ) -> keras.layers.Dense:
        """Returns a built Dense of `units` (default `hidden_dim`) under this layer's policy."""
        layer = keras.layers.Dense(
            units or self.hidden_dim, name=name, dtype=self.dtype_policy, **kwargs
        )
        layer.build((None, None, input_dim))
        return layer

    def call(self, inputs: Mapping[str, Mapping[str, Any]], training: bool = False) -> dict:
        """Returns the fused tokens, their mask and the pooled vector."""
        tokens, masks, present = {}, {}, []
        for m in self.modalities:
            mask = ops.cast(inputs[m]["mask"], "bool")
            x = self.projections[m](zero_masked(inputs[m]["tokens"], mask))
            tokens[m], masks[m] = self.absent_tokens[m](x, mask)
            present.append(ops.any(mask, axis=1))
        out = self.fuse(tokens, masks, ops.stack(present, axis=1), training)
        said = self.output_length({m: inputs[m]["tokens"].shape[1] for m in self.modalities})
        if out["tokens"].shape[1] not in (said, None):
            raise ValueError(
                f"`output_length` of {type(self).__name__} must be the number of tokens that "
                f"`fuse` returns. Received: {said}, but {out['tokens'].shape[1]} tokens. Define "
                "`output_length(self, lengths)`; see mmkeras/fusion/base.py."
            )
        return {**out, "tokens": zero_masked(out["tokens"], out["mask"])}

    def compute_output_spec(self, inputs: Mapping, training: bool = False) -> dict:
        """(B, T', D), (B, T') and (B, D), with T' from `output_length`."""
        shapes = {
            m: {k: tuple(v.shape) for k, v in part.items()} for m, part in dict(inputs).items()
        }
        check_shapes(self.modalities, shapes)
        batch = inputs[self.modalities[0]]["tokens"].shape[0]
        time = self.output_length({m: shapes[m]["tokens"][1] for m in self.modalities})
        return {
            "tokens": keras.KerasTensor((batch, time, self.hidden_dim), self.compute_dtype),
            "mask": keras.KerasTensor((batch, time), "bool"),
            "pooled": keras.KerasTensor((batch, self.hidden_dim), self.compute_dtype),
        }

    def output_length(self, lengths: dict[str, int]) -> int:
        """T' from the T_m; one token per modality unless a subclass says otherwise."""
        return len(self.modalities)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "modalities": list(self.modalities),
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
        }


def taking_part(present: Any) -> Any:
    """Which modalities a fusion of the present ones reads: all of them where none is present.

    Args:
        present: bool (B, M).

    Returns:
        Bool (B, M) with a true entry in every row: without one it is the learned absent vectors
        that are fused.
    """
    nothing = ops.logical_not(ops.any(present, axis=1, keepdims=True))
    return ops.logical_or(present, nothing)


def check_shapes(modalities: Sequence[str], shapes: Any) -> None:
    """Raises unless `shapes` has tokens (B, T, D) and a mask (B, T) for every modality."""
    if not isinstance(shapes, Mapping) or set(shapes) != set(modalities):
        raise ValueError(
            f"A fusion must be called with one entry for each of its modalities {modalities}. "
            f"Received: {sorted(shapes) if isinstance(shapes, Mapping) else shapes}. Pass "
            "{name: {'tokens': ..., 'mask': ...}}."
        )
    for m in modalities:
        if not isinstance(shapes[m], Mapping) or set(shapes[m]) != {"tokens", "mask"}:
            raise ValueError(f"The entry of {m!r} must hold 'tokens' and 'mask'. Got: {shapes[m]}.")
        tokens, mask = tuple(shapes[m]["tokens"]), tuple(shapes[m]["mask"])
        if len(tokens) != 3 or mask[1:] != tokens[1:2] or len(mask) != 2:
            raise ValueError(
                f"The tokens of {m!r} must be (B, T, D) and its mask (B, T) with the same T. "
                f"Received: tokens {tokens}, mask {mask}. One mask entry belongs to each token."
            )
