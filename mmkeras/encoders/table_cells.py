"""The cells of a table as features: what its encoders begin with."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import zero_masked


class _Cells(keras.layers.Layer):
    """Cells (B, C), numbers first, then category ids; ids are read in float32 under any policy."""

    def __init__(self, num_numeric: int, sizes: Sequence[int], dim: int, **kwargs: Any) -> None:
        """Stores the arguments."""
        super().__init__(autocast=False, **kwargs)  # bfloat16 would round ids above 256
        self.num_numeric = checks.whole("num_numeric", num_numeric, 0)
        self.sizes = tuple(checks.whole("sizes", size) for size in sizes)
        self.dim = checks.whole("dim", dim)

    @property
    def num_cells(self) -> int:
        """C."""
        return self.num_numeric + len(self.sizes)

    def build_embeddings(self, initializer: Any) -> None:
        """Creates one table for the ids of all columns, (sum of sizes, D)."""
        self.embeddings = None
        if self.sizes:
            self.embeddings = self.add_weight(
                shape=(sum(self.sizes), self.dim), initializer=initializer, name="embeddings"
            )

    def embed(self, ids: Any) -> Any:
        """(B, K) ids as floats -> (B, K, D) in the compute dtype."""
        starts = np.cumsum((0, *self.sizes[:-1]))
        rows = ops.cast(ids, "int32") + ops.convert_to_tensor(starts, dtype="int32")
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), rows, axis=0)

    def numbers(self, cells: Any) -> Any:
        """(B, C) -> (B, N) in the compute dtype."""
        return ops.cast(cells[:, : self.num_numeric], self.compute_dtype)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_numeric": self.num_numeric,
            "sizes": list(self.sizes),
            "dim": self.dim,
        }


@register
class TableFeatures(_Cells):
    """A table row as one vector: numbers, an embedding per category, and which cells are there.

    A missing cell is zero, and its place in the mask tells it from the mean of its column.

    Args:
        num_numeric: number of numeric columns N, which come first.
        sizes: ids of each of the K categorical columns.
        dim: width D of an embedding.

    Call arguments:
        cells: float32 (B, C).
        mask: bool (B, C).

    Returns:
        (B, N + K D + C).
    """

    def build(self, cells_shape: tuple, mask_shape: tuple = None) -> None:
        """Creates the embeddings."""
        self.build_embeddings("uniform")

    def call(self, cells: Any, mask: Any) -> Any:
        """Returns the features."""
        parts = [self.numbers(cells)]
        if self.sizes:
            embedded = self.embed(cells[:, self.num_numeric :])
            embedded = zero_masked(embedded, mask[:, self.num_numeric :])
            parts.append(ops.reshape(embedded, (-1, len(self.sizes) * self.dim)))
        parts.append(ops.cast(mask, self.compute_dtype))
        return ops.concatenate(parts, axis=1)

    def compute_output_spec(self, cells: Any, mask: Any) -> keras.KerasTensor:
        """(B, N + K D + C)."""
        width = self.num_numeric + len(self.sizes) * self.dim + self.num_cells
        return keras.KerasTensor((cells.shape[0], width), self.compute_dtype)


@register
class FeatureTokenizer(_Cells):
    """A table row as tokens, one per cell, behind a learned [CLS] (Gorishniy et al. 2021, 3.3).

    A number x becomes b + x w, a category b + e, with b, w, e of the column; every weight starts
    uniform in +-1 / sqrt(D), as there.

    Args:
        num_numeric: number of numeric columns, which come first.
        sizes: ids of each categorical column.
        dim: D.
        with_cls: whether there is [CLS].

    Call arguments:
        cells: float32 (B, C).
        mask: bool (B, C).

    Returns:
        `(tokens, mask)`: (B, 1 + C, D), and bool (B, 1 + C), true at [CLS]; without it (B, C, D)
        and the mask as it is.
    """

    def __init__(
        self,
        num_numeric: int,
        sizes: Sequence[int],
        dim: int,
        *,
        with_cls: bool = True,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(num_numeric, sizes, dim, **kwargs)
        self.with_cls = bool(with_cls)

    def build(self, cells_shape: tuple, mask_shape: tuple = None) -> None:
        """Creates weights, embeddings, biases and [CLS]."""
        start = keras.initializers.RandomUniform(-(self.dim**-0.5), self.dim**-0.5)
        self.kernel = None
        if self.num_numeric:
            self.kernel = self.add_weight(
                shape=(self.num_numeric, self.dim), initializer=start, name="kernel"
            )
        self.build_embeddings(start.clone())
        self.bias = self.add_weight(
            shape=(self.num_cells, self.dim), initializer=start.clone(), name="bias"
        )
        if self.with_cls:
            self.cls = self.add_weight(
                shape=(1, 1, self.dim), initializer=start.clone(), name="cls"
            )

    def call(self, cells: Any, mask: Any) -> tuple[Any, Any]:
        """Returns tokens and mask."""
        dtype, parts = self.compute_dtype, []
        if self.num_numeric:
            parts.append(self.numbers(cells)[:, :, None] * ops.cast(self.kernel, dtype))
        if self.sizes:
            parts.append(self.embed(cells[:, self.num_numeric :]))
        tokens = ops.concatenate(parts, axis=1) + ops.cast(self.bias, dtype)
        if not self.with_cls:
            return tokens, mask
        cls = ops.cast(self.cls, dtype)
        cls = ops.broadcast_to(cls, (ops.shape(cells)[0], 1, self.dim))
        return ops.concatenate([cls, tokens], axis=1), ops.pad(
            mask, ((0, 0), (1, 0)), constant_values=True
        )

    def compute_output_spec(self, cells: Any, mask: Any) -> tuple:
        """One token more than cells, or as many."""
        shape = (cells.shape[0], self.num_cells + self.with_cls)
        tokens = keras.KerasTensor((*shape, self.dim), self.compute_dtype)
        return tokens, keras.KerasTensor(shape, "bool")

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "with_cls": self.with_cls}
