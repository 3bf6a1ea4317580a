"""The memory fusion network: recurrent modalities, and a memory of how they change together."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.fusion.base import Fusion
from mmkeras.fusion.memory_cell import MemoryCell


@register
class MemoryFusion(Fusion):
    """MFN (Zadeh et al. 2018, arXiv 1802.00927), for sequences that are aligned step by step.

    At step t each modality's LSTM makes (h_m, c_m)^t out of its token. Then, [.] joining the
    modalities, c = [c^(t-1); c^t] and c' = c * softmax(A(c)), the attention over two steps that
    sees what has changed (delta-memory attention), the memory becomes

        u^t = sigmoid(K(c')) * u^(t-1) + sigmoid(R(c')) * tanh(U(c'))     (multi-view gated memory)

    and pooled = W [h_1; ...; h_M; u] + b after the last step. A, K, R, U are networks of one
    hidden layer of D ReLUs. A step at which a modality is absent leaves its h_m and c_m as they
    were; one at which all are leaves u, too.

    Deviations: one step more follows the sequences, at which modalities that are absent
    altogether, and no others, read their learned absent token; a modality of one token next to
    sequences (a vector, a table) is read at every step; the bias of the forget gates starts at 1;
    one width D for everything.

    When to use it: speech, words and face of one clip at common steps (make them so with the same
    number of frames, or steps). It reads step after step: slow on long sequences.

    Cost, beyond the projections of `Fusion`: 18 M D^2 + (M + 4) D^2 + O(M D) weights, of which
    all but (M + 1) D^2 work at each step: per sample (T + 1) (36 M + 6) D^2 floating-point
    operations.

    Returns (see `Fusion`):
        tokens (B, T + 1, D): the memory u after each step.
    """

    def build(self, input_shape: Mapping[str, Mapping[str, tuple]]) -> None:
        """Builds the layer; raises ValueError for sequences that differ in length, or none."""
        lengths = {m: tuple(shape["tokens"])[1] for m, shape in input_shape.items()}
        if set(lengths.values()) == {1}:
            raise ValueError(
                "Memory fusion reads steps, and there is one: its recurrence would never train. "
                f"Received: {lengths} tokens. Take another fusion, or another level than 'pooled'."
            )
        if len(set(lengths.values()) - {1}) > 1:
            raise ValueError(
                "Memory fusion takes aligned sequences: as many tokens of one modality as of the "
                f"other, step t of all being the same moment (or one token). Received: {lengths}. "
                "Give the encoders the same number of steps, or use 'late_transformer'."
            )
        super().build(input_shape)

    def build_fusion(self) -> None:
        """Builds the inputs' part of the LSTMs, the recurrence and the output."""
        dim, count = self.hidden_dim, len(self.modalities)
        self.entries = {m: self.dense(f"{m}_entry", dim, 4 * dim) for m in self.modalities}
        cell = MemoryCell(count, dim, name="cell", dtype=self.dtype_policy)
        self.recurrence = keras.layers.RNN(
            cell,
            return_sequences=True,
            return_state=True,
            name="recurrence",
            dtype=self.dtype_policy,
        )
        self.recurrence.build((None, None, count * (4 * dim + 1)))
        self.out = self.dense("out", (count + 1) * dim)

    def fuse(self, tokens: dict, masks: dict, present: Any, training: bool) -> dict:
        """Reads the sequences."""
        longest = max((x.shape[1] or 2) for x in tokens.values())
        steps, seen = [], []
        for m in self.modalities:
            x, mask = tokens[m], masks[m]
            if x.shape[1] == 2 < longest:  # one token and the absent one
                x = ops.concatenate([ops.repeat(x[:, :1], longest - 1, axis=1), x[:, 1:]], 1)
                mask = ops.concatenate([ops.repeat(mask[:, :1], longest - 1, 1), mask[:, 1:]], 1)
            steps.append(self.entries[m](x))
            seen.append(mask)
        seen = ops.stack(seen, axis=2)  # (B, T + 1, M)
        x = ops.concatenate([*steps, ops.cast(seen, steps[0].dtype)], axis=2)
        memory, h, _, u = self.recurrence(x)
        pooled = self.out(self.drop(ops.concatenate([h, u], axis=1), training=training))
        return {"tokens": memory, "mask": ops.any(seen, axis=2), "pooled": pooled}

    def output_length(self, lengths: dict[str, int]) -> int | None:
        """The steps and the one of the absent."""
        known = [length for length in lengths.values() if length is not None]
        return max(known) + 1 if len(known) == len(lengths) else None
