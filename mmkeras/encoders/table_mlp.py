"""A multi-layer perceptron over a table row."""

import keras

from mmkeras.core import Table
from mmkeras.encoders.base import PoolMask, begin, end
from mmkeras.encoders.table_cells import TableFeatures
from mmkeras.encoders.vector_mlp import dense_blocks


def table_mlp(
    name: str,
    modality: Table,
    *,
    embedding_dim: int = 8,
    hidden_dim: int = 64,
    num_layers: int = 2,
    dropout: float = 0.0,
) -> keras.Model:
    """Numbers, category embeddings and the mask of the cells, then dense blocks.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Table` of C columns.
        embedding_dim: width of a category.
        hidden_dim: D.
        num_layers: number of dense layers, each with layer normalisation and GELU.
        dropout: rate after each.

    Returns:
        Functional model to tokens (B, 1, D) and the mask (B, 1), true where any cell is there.
    """
    inputs, cells, mask = begin(name, modality)
    x = TableFeatures(
        len(modality.numeric), modality.sizes, embedding_dim, name=f"{name}_features"
    )(cells, mask)
    x = dense_blocks(name, x, hidden_dim, num_layers, dropout)
    tokens = keras.layers.Reshape((1, hidden_dim), name=f"{name}_token")(x)
    row = PoolMask(len(modality.columns), name=f"{name}_row")(mask)
    return end(name, "mlp", inputs, tokens, row)
