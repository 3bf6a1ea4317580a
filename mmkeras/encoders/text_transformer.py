"""Word embeddings, learned positions and transformer blocks."""

from typing import Any

import keras

from mmkeras.core import Text
from mmkeras.encoders.base import SegmentIds, begin, end, sizes_of
from mmkeras.encoders.word_vectors import word_embedding
from mmkeras.layers import LearnedPositions, TransformerBlock

_SIZES = ("hidden_dim", "num_layers", "num_heads", "intermediate_dim")
# BERT's: Devlin et al. 2019 ("base", "large"), Turc et al. 2019 (the others).
_TABLE = {
    "small": (64, 2, 4, None),
    "bert_tiny": (128, 2, 2, 512),
    "bert_mini": (256, 4, 4, 1024),
    "bert_small": (512, 4, 8, 2048),
    "bert_medium": (512, 8, 8, 2048),
    "bert_base": (768, 12, 12, 3072),
    "bert_large": (1024, 24, 16, 4096),
}
VARIANTS = {name: dict(zip(_SIZES, sizes, strict=True)) for name, sizes in _TABLE.items()}


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
    x = embedded(name, modality, ids, dim, embeddings)
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


def embedded(name: str, modality: Text, ids: Any, dim: int, embeddings: Any = None) -> Any:
    """Returns word vectors + positions (+ the vectors of the segments) of ids (B, L): (B, L, D)."""
    x = word_embedding(name, modality, ids, dim, embeddings)
    x = LearnedPositions(modality.length, name=f"{name}_positions")(x)
    if modality.segments == 1:
        return x
    separator = modality.vocabulary.index("[SEP]")
    number = SegmentIds(modality.segments, separator, name=f"{name}_segment_ids")(ids)
    segment = keras.layers.Embedding(modality.segments, dim, name=f"{name}_segments")(number)
    return keras.layers.Add(name=f"{name}_add_segments")([x, segment])
