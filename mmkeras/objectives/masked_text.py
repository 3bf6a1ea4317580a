"""Masked language modelling, by a text alone or with the help of the other modalities."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.layers import MaskTokens, TransformerBlock
from mmkeras.objectives.masked import Masked
from mmkeras.objectives.rows import summed


@register
class MaskedText(Masked):
    """Predicts words that were masked: cross-entropy, the mean over the chosen ones.

    BERT (Devlin et al. 2019, 3.1): `mk.layers.MaskTokens` chooses 15 % of the real tokens and
    corrupts them (80 % the mask token, 10 % a random one, 10 % as they were); the encoder reads the
    corrupted text, and what it returns at the chosen positions goes through a dense layer, GELU, a
    norm and the logits of the vocabulary. Deviations: the output matrix is not tied to the word
    vectors; no next-sentence prediction (left out since RoBERTa, Liu et al. 2019).

        spec = mk.Text(length=32, mask_token=True)
        model = mk.assemble(data.modalities, heads={"words": mk.objectives.MaskedText("text")})

    With `cross=True` the words are predicted with the help of the other modalities (ALBEF, Li et
    al. 2021, arXiv 2107.07651, 3.2): the fusion reads them beside the corrupted text, and each
    token then attends to all that the fusion returns, in one block of its own, so that any fusion
    of tokens will do.

    Args:
        modality: name of a text whose encoder returns a token per word, in order; its vocabulary
            must have "[MASK]".
        rate, cross, num_heads, seed: see `Masked`. At least one token of a text is chosen.
        vocabulary_size: filled in by `assemble`.

    Returns (see `RowObjective`):
        (B, 2) float32. A text that is absent counts for nothing.
    """

    own = ("vocabulary_size",)

    def __init__(
        self, modality: str, *, rate: float = 0.15, vocabulary_size: int | None = None, **kwargs
    ) -> None:
        """Stores the arguments."""
        super().__init__(modality, rate=rate, **kwargs)
        self.vocabulary_size = vocabulary_size

    def connect(self, parts: Any) -> Any:
        """Masks the ids, encodes them and predicts; see `mmkeras.models.parts.Parts`."""
        m, spec = self.modality, parts.spec(self.modality, "text")
        if "[MASK]" not in spec.vocabulary:
            raise ValueError(
                f"The vocabulary of {m!r} must have '[MASK]', which stands for a masked word. "
                f"Received: one that begins with {spec.vocabulary[:3]}. Declare the text with "
                "mk.Text(..., mask_token=True)."
            )
        self.vocabulary_size = len(spec.vocabulary)
        special = ("[PAD]", "[SEP]", "[CLS]", "[MASK]")
        corrupt = MaskTokens(
            self.vocabulary_size,
            spec.vocabulary.index("[MASK]"),
            [i for i, token in enumerate(spec.vocabulary) if token in special],
            rate=self.rate,
            seed=self.seed,
            name=f"{self.name}_masking",
        )
        ids, mask = parts.inputs[m], parts.inputs[f"{m}_mask"]
        masked, chosen = corrupt(ids, mask)
        encoded = parts.encode(m, masked, mask)
        if encoded["tokens"].shape[1] != ids.shape[1]:
            raise ValueError(
                f"The encoder of {m!r} must return a token per word. Received: "
                f"{encoded['tokens'].shape[1]} tokens of {ids.shape[1]} words. Take 'transformer'."
            )
        given = {"tokens": encoded["tokens"], "ids": ids, "chosen": chosen}
        if self.cross:
            fused = parts.fuse(parts.replaced(m, encoded))
            given |= {"context": fused["tokens"], "context_mask": fused["mask"]}
        return self(given)

    def build(self, input_shape: Mapping[str, tuple]) -> None:
        """Builds the block of `cross`, and what makes logits."""
        width = input_shape["context" if self.cross else "tokens"][-1]
        if self.cross:
            self.query = keras.layers.Dense(width, name="query", dtype="float32")
            self.query.build(input_shape["tokens"])
            self.block = TransformerBlock(
                self.num_heads, 2 * width, cross=True, name="block", dtype="float32"
            )
            self.block.build((None, None, width))
        self.hidden = keras.layers.Dense(width, activation="gelu", name="hidden", dtype="float32")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype="float32")
        self.logits = keras.layers.Dense(self.vocabulary_size, name="logits", dtype="float32")
        for layer in (self.hidden, self.norm, self.logits):
            layer.build((None, None, width))

    def call(self, given: Mapping[str, Any], training: bool = False) -> Any:
        """Returns sum and count of each row."""
        # No more can be chosen: only these positions are computed, 7 times fewer than all.
        length = given["chosen"].shape[1]
        most = max(1, int(self.rate * length + 0.5001))
        places = ops.argsort(ops.cast(~given["chosen"], "int32"), axis=1)[:, :most]
        chosen = ops.take_along_axis(given["chosen"], places, axis=1)
        ids = ops.take_along_axis(given["ids"], places, axis=1)
        x = ops.take_along_axis(given["tokens"], places[:, :, None], axis=1)
        if self.cross:
            x = self.block(self.query(x), given["context_mask"], given["context"])
        log_p = ops.log_softmax(self.logits(self.norm(self.hidden(x))), axis=-1)
        losses = -ops.take_along_axis(log_p, ops.cast(ids, "int32")[:, :, None], axis=-1)[:, :, 0]
        return summed(losses, chosen)
