"""Heads of each modality's own, beside those that read the fusion."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.heads import Head
from mmkeras.layers import masked_mean
from mmkeras.training import private


class ModalityHeads(keras.layers.Layer):
    """A copy of every head for each modality, on the mean of its encoder's real tokens.

    Args:
        modalities: their names.
        heads: output -> head, whose arguments the copies have.
        detached: whether no gradient goes back through the tokens.

    Call arguments:
        encoded: `{name: {"tokens": (B, T_m, D_m), "mask": bool (B, T_m)}}`.

    Returns:
        `{name: {"present": bool (B,), output: what the copy returns, (B, units)}}`; of an absent
        modality it is that of a zero vector.
    """

    def __init__(
        self, modalities: tuple[str, ...], heads: Mapping[str, Head], *, detached: bool, **kwargs
    ) -> None:
        """Makes the copies."""
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.modalities, self.detached = modalities, detached
        self.copies = {
            m: {o: _copy(head, f"{m}_{o}") for o, head in heads.items()} for m in modalities
        }

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds the copies."""
        for m, copies in self.copies.items():
            batch, _, dim = input_shape[m]["tokens"]
            one = {"tokens": (batch, 1, dim), "mask": (batch, 1), "pooled": (batch, dim)}
            for copy in copies.values():
                copy.build(one)

    def call(self, encoded: Mapping[str, Mapping[str, Any]], training: bool = False) -> dict:
        """Lets the copies read the tokens."""
        out = {}
        for m in self.modalities:
            tokens, mask = encoded[m]["tokens"], ops.cast(encoded[m]["mask"], "bool")
            pooled = masked_mean(ops.stop_gradient(tokens) if self.detached else tokens, mask)
            present = ops.any(mask, axis=1)
            one = {"tokens": pooled[:, None], "mask": present[:, None], "pooled": pooled}
            said = {o: copy(one, training=training) for o, copy in self.copies[m].items()}
            out[m] = {"present": present, **said}
        return out

    def compute_output_spec(self, encoded: Mapping, training: bool = False) -> dict:
        """(B,) and (B, units)."""
        out = {}
        for m in self.modalities:
            batch = encoded[m]["tokens"].shape[0]
            out[m] = {
                o: keras.KerasTensor((batch, copy.units), "float32")
                for o, copy in self.copies[m].items()
            }
            out[m]["present"] = keras.KerasTensor((batch,), "bool")
        return out


def encoded(model: keras.Model) -> dict[str, tuple[keras.Model, dict]]:
    """Returns modality -> (its encoder, the tokens and mask that it gives in the model's graph).

    Raw units (`mk.encoders.raw`) count as the encoder where there is no other.
    """
    found = {}
    for layer in model.layers:
        if not isinstance(layer, keras.Model) or not isinstance(layer.output, Mapping):
            continue
        outputs = private.outputs_of(layer, model.inputs)
        if outputs is not None and set(outputs) == {"tokens", "mask"}:
            name = min(layer.input, key=len)  # NAME, and not NAME_mask
            if name not in found or found[name][0].name == f"{name}_raw":
                found[name] = (layer, outputs)
    return found


def _copy(head: Head, name: str) -> Head:
    return type(head).from_config({**head.get_config(), "name": name})
