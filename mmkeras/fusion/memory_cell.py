"""One step of the memory fusion network."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import register


@register
class MemoryCell(keras.layers.Layer):
    """One step of `MemoryFusion`; states [h_1; ..; h_M], [c_1; ..; c_M] (B, M D) and u (B, D).

    Args:
        count: M.
        hidden_dim: D.

    Call arguments:
        inputs: (B, M 4 D + M): of each modality W x + b for input gate, forget gate, candidate
            and output gate, then 1 where it is present at this step.
        states: as said.
    """

    def __init__(self, count: int, hidden_dim: int, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.count, self.hidden_dim = count, hidden_dim
        self.state_size = [count * hidden_dim, count * hidden_dim, hidden_dim]
        self.output_size = hidden_dim

    def build(self, input_shape: tuple) -> None:
        """Builds the recurrent kernels and the four networks."""
        dim, wide = self.hidden_dim, 2 * self.count * self.hidden_dim
        self.recurrent = self.add_weight(
            shape=(self.count, dim, 4, dim),
            initializer=keras.initializers.RandomNormal(stddev=dim**-0.5),
            name="recurrent",
        )
        self.attend = [
            self._dense("attend_in", wide, dim, activation="relu"),
            self._dense("attend_out", dim, wide),
        ]
        self.gates_in = self._dense("gates_in", wide, 3 * dim, activation="relu")
        self.gates = [self._dense(name, dim, dim) for name in ("keep", "write", "update")]

    def _dense(self, name: str, input_dim: int, units: int, **kwargs: Any) -> keras.layers.Dense:
        layer = keras.layers.Dense(units, name=name, dtype=self.dtype_policy, **kwargs)
        layer.build((None, input_dim))
        return layer

    def call(self, inputs: Any, states: list, training: bool = False) -> tuple[Any, list]:
        """Returns u and the new states."""
        h, c, u = states
        entries, seen = inputs[:, : -self.count], inputs[:, -self.count :] > 0.5
        new_h, new_c = self._remember(entries, h, c)
        there = ops.repeat(seen, self.hidden_dim, axis=1)
        new_h, new_c = ops.where(there, new_h, h), ops.where(there, new_c, c)
        both = ops.concatenate([c, new_c], axis=1)
        logits = self.attend[1](self.attend[0](both))
        both = both * ops.cast(ops.softmax(ops.cast(logits, "float32"), axis=1), both.dtype)
        hidden = ops.split(self.gates_in(both), 3, axis=1)
        keep, write, update = (net(x) for net, x in zip(self.gates, hidden, strict=True))
        now = ops.sigmoid(keep) * u + ops.sigmoid(write) * ops.tanh(update)
        u = ops.where(ops.any(seen, axis=1, keepdims=True), now, u)
        return u, [new_h, new_c, u]

    def _remember(self, entries: Any, h: Any, c: Any) -> tuple[Any, Any]:
        """h and c of every LSTM after a step at which all modalities are present."""
        count, dim = self.count, self.hidden_dim
        kernel = ops.cast(self.recurrent, h.dtype)
        gates = ops.transpose(ops.reshape(entries, (-1, count, 4, dim)), (0, 2, 1, 3))
        gates = gates + ops.einsum("bmd,mdge->bgme", ops.reshape(h, (-1, count, dim)), kernel)
        gates = ops.reshape(gates, (-1, 4, count * dim))
        enter, forget, candidate, leave = (gates[:, i] for i in range(4))
        now = ops.sigmoid(forget + 1.0) * c + ops.sigmoid(enter) * ops.tanh(candidate)
        return ops.sigmoid(leave) * ops.tanh(now), now
