"""Word embeddings, learned positions and transformer blocks."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import Text, register
from mmkeras.core.checks import whole
from mmkeras.encoders.base import begin, end, sizes_of
from mmkeras.encoders.word_vectors import word_embedding
from mmkeras.layers import LearnedPositions, TransformerBlock

# BERT's sizes: Devlin et al. 2019 ("base", "large") and Turc et al. 2019.
VARIANTS = {
    "small": {"hidden_dim": 64, "num_layers": 2, "num_heads": 4, "intermediate_dim": None},
    "bert_tiny": {"hidden_dim": 128, "num_layers": 2, "num_heads": 2, "intermediate_dim": None},
    "bert_mini": {"hidden_dim": 256, "num_layers": 4, "num_heads": 4, "intermediate_dim": None},
    "bert_small": {"hidden_dim": 512, "num_layers": 4, "num_heads": 8, "intermediate_dim": None},
    "bert_medium": {"hidden_dim": 512, "num_layers": 8, "num_heads": 8, "intermediate_dim": None},
    "bert_base": {"hidden_dim": 768, "num_layers": 12, "num_heads": 12, "intermediate_dim": None},
    "bert_large": {"hidden_dim": 1024, "num_layers": 24, "num_heads": 16, "intermediate_dim": None},
}


def text_transformer(
    name: str,
    modality: Text,
    *,
    variant: str = "small",
    normalize_first: bool = True,
    dropout: float = 0.1,
    remat: bool = False,
    embeddings: Any = None,
    **sizes: Any,
) -> keras.Model:
    """A transformer encoder over token ids, pre-norm, or post-norm as BERT (Devlin et al. 2019).

    Of a text with segments (`mk.Text(segments=2)`) every token also gets the learned vector of
    its segment. Deviations from BERT: no [CLS] token, because pooling belongs to fusion and heads;
    the keys have no bias (see `TransformerBlock`).

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Text` of L tokens.
        variant: a key of `VARIANTS`.
        normalize_first: whether norms stand before attention and MLP, and once at the end; else
            after them, and after the embeddings.
        dropout: rate inside the blocks, and when post-norm on the embeddings.
        remat: whether the blocks keep no activations (see `TransformerBlock`).
        embeddings: what the word vectors start from; see `word_embedding`.
        **sizes: in place of the variant's: `hidden_dim` (D), `num_layers`, `num_heads`,
            `intermediate_dim` (of the MLPs; 4 D when None).

    Returns:
        Functional model to tokens (B, L, D) and the mask (B, L).
    """
    size = sizes_of(VARIANTS, variant, sizes)
    dim = size["hidden_dim"]
    inputs, ids, mask = begin(name, modality)
    x = word_embedding(name, modality, ids, dim, embeddings)
    x = LearnedPositions(modality.length, name=f"{name}_positions")(x)
    if modality.segments > 1:
        separator = modality.vocabulary.index("[SEP]")
        number = SegmentIds(modality.segments, separator, name=f"{name}_segment_ids")(ids)
        segment = keras.layers.Embedding(modality.segments, dim, name=f"{name}_segments")(number)
        x = keras.layers.Add(name=f"{name}_add_segments")([x, segment])
    if not normalize_first:
        x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    for i in range(size["num_layers"]):
        x = TransformerBlock(
            size["num_heads"],
            size["intermediate_dim"] or 4 * dim,
            dropout=dropout,
            normalize_first=normalize_first,
            remat=remat,
            name=f"{name}_block{i}",
        )(x, mask)
    if normalize_first:
        x = keras.layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm")(x)
    return end(name, "transformer", inputs, x, mask)


@register
class SegmentIds(keras.layers.Layer):
    """Number of the segment of each token: how many separators stand before it.

    Args:
        segments: number of segments; what follows the last counts to it.
        separator: id of the separator, which belongs to the segment that it ends.

    Call arguments: int (B, L). Returns int32 (B, L) below `segments`.
    """

    def __init__(self, segments: int, separator: int, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(autocast=False, **kwargs)
        self.segments = whole("segments", segments)
        self.separator = whole("separator", separator, 0)

    def call(self, ids: Any) -> Any:
        """Returns the numbers."""
        ends = ops.cast(ops.equal(ids, self.separator), "int32")
        return ops.minimum(ops.cumsum(ends, axis=1) - ends, self.segments - 1)

    def compute_output_spec(self, ids: Any) -> keras.KerasTensor:
        """(B, L) int32."""
        return keras.KerasTensor(ids.shape, "int32")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "segments": self.segments, "separator": self.separator}
