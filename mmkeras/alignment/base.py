"""The contract of an alignment: every modality into one space, before any fusion."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import checks
from mmkeras.layers.masking import zero_masked


class Alignment(keras.layers.Layer):
    """Projects the tokens of every modality to one width; a subclass says how.

    A subclass defines `build_part(name, input_dim)`, which builds the children for one sequence,
    and `align(name, tokens, mask, training)`, which returns its tokens (B, T, hidden_dim).

    Args:
        modalities: names in declared order.
        hidden_dim: D of the common space.
        dropout: rate on the aligned tokens.

    Call arguments:
        inputs: `{name: {"tokens": (B, T_m, D_m), "mask": bool (B, T_m)}}`; `levels` of an encoder
            (see `mmkeras.encoders.levels`) are read by `multi_scale` alone.

    Returns:
        `{name: {"tokens": (B, T, hidden_dim), "mask": (B, T)}}`, what a fusion takes. What stands
        behind a false mask changes no bit of it, and is zero in it.
    """

    multi_scale = False

    def __init__(
        self, modalities: Sequence[str], *, hidden_dim: int = 64, dropout: float = 0.0, **kwargs
    ) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.modalities = checks.modality_names(modalities)
        self.hidden_dim = checks.whole("hidden_dim", hidden_dim)
        self.dropout = checks.real("dropout", dropout, 0.0, 1.0)

    def build(self, input_shape: Mapping[str, Mapping[str, Any]]) -> None:
        """Builds the children of every sequence."""
        for m in self.modalities:
            for part, shapes in self.parts(m, self._of(input_shape, m)).items():
                self.build_part(part, shapes["tokens"][-1])
        self.drop = keras.layers.Dropout(self.dropout, name="dropout", dtype=self.dtype_policy)

    def call(self, inputs: Mapping[str, Mapping[str, Any]], training: bool = False) -> dict:
        """Returns the aligned tokens and masks."""
        return {m: self._one(m, self._of(inputs, m), training) for m in self.modalities}

    def _one(self, name: str, given: Mapping[str, Any], training: bool) -> dict:
        tokens, masks = [], []
        for part, held in self.parts(name, given).items():
            mask = ops.cast(held["mask"], "bool")
            x = self.align(part, zero_masked(held["tokens"], mask), mask, training)
            tokens.append(zero_masked(self.drop(x, training=training), mask))
            masks.append(mask)
        if len(tokens) == 1:
            return {"tokens": tokens[0], "mask": masks[0]}
        return {"tokens": ops.concatenate(tokens, 1), "mask": ops.concatenate(masks, 1)}

    def parts(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Name of a weight -> tokens and mask (or their shapes), of the sequences of a modality."""
        own = {name: {key: given[key] for key in ("tokens", "mask")}}
        if not self.multi_scale:
            return own
        levels = given.get("levels", {})
        return {**{f"{name}_{level}": levels[level] for level in sorted(levels)}, **own}

    def _of(self, inputs: Any, name: str) -> Mapping[str, Any]:
        held = inputs.get(name) if isinstance(inputs, Mapping) else None
        if not isinstance(held, Mapping) or not {"tokens", "mask"} <= set(held):
            raise ValueError(
                f"An alignment must be called with 'tokens' and 'mask' for each of its modalities "
                f"{self.modalities}. Received for {name!r}: {held}."
            )
        return held

    def dense(self, name: str, input_dim: int, **kwargs: Any) -> keras.layers.Dense:
        """Returns a built Dense of `hidden_dim` under this layer's policy."""
        layer = keras.layers.Dense(self.hidden_dim, name=name, dtype=self.dtype_policy, **kwargs)
        layer.build((None, None, input_dim))
        return layer

    def compute_output_spec(self, inputs: Mapping, training: bool = False) -> dict:
        """(B, T, D) and (B, T) per modality; T is the sum over its levels."""
        out = {}
        for m in self.modalities:
            parts = self.parts(m, self._of(inputs, m))
            batch = inputs[m]["tokens"].shape[0]
            time = sum(part["tokens"].shape[1] for part in parts.values())
            out[m] = {
                "tokens": keras.KerasTensor((batch, time, self.hidden_dim), self.compute_dtype),
                "mask": keras.KerasTensor((batch, time), "bool"),
            }
        return out

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "modalities": list(self.modalities),
            "hidden_dim": self.hidden_dim,
            "dropout": self.dropout,
        }
