"""A transformer block with explicit masks, for self- and cross-attention."""

from typing import Any

import keras
from keras import ops

from mmkeras.core import checks, register

CHUNK = 256
"""Queries that attend at a time under `remat`."""


@register
class TransformerBlock(keras.layers.Layer):
    """x + attention(norm(x), context), then x + mlp(norm(x)).

    Vaswani et al. 2017 with the pre-norm order of Xiong et al. 2020 and GELU; or, post-norm as in
    the former, norm(x + attention(x, context)), then norm(x + mlp(x)). Deviations: the keys have
    no bias, which would never train; in pre-norm cross-attention the context has a norm of its own.

    Args:
        num_heads: attention heads; must divide D.
        intermediate_dim: width of the MLP.
        dropout: rate after each branch, before it is added; attention weights are not dropped.
        cross: whether `context` is attended to instead of `tokens` itself.
        normalize_first: pre-norm; False: post-norm.
        remat: whether training computes activations again in the backward pass instead of keeping
            them, the attention in chunks of queries. Same numbers, less memory, more time
            (`python -m benchmarks.memory`). Where T is not known beforehand, the attention is
            computed whole.

    Call arguments:
        tokens: (B, T, D).
        mask: bool (B, S): which positions of the context (of the tokens, without context) may be
            attended to. Every row needs at least one true position to be meaningful; without
            one the attention is uniform, never NaN.
        context: (B, S, D), only with `cross=True`.

    Returns:
        (B, T, D).
    """

    def __init__(
        self,
        num_heads: int,
        intermediate_dim: int,
        *,
        dropout: float = 0.0,
        cross: bool = False,
        normalize_first: bool = True,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.num_heads = checks.whole("num_heads", num_heads)
        self.intermediate_dim = checks.whole("intermediate_dim", intermediate_dim)
        self.dropout = checks.real("dropout", dropout, 0.0, 1.0)
        self.cross = bool(cross)
        self.normalize_first = bool(normalize_first)
        self.remat = bool(remat)

    def build(self, tokens_shape: tuple, mask_shape: tuple = None, context_shape: tuple = None):
        """Creates every child for tokens of width D."""
        dim, policy = tokens_shape[-1], self.dtype_policy
        if dim % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the token width. Received: num_heads={self.num_heads}, "
                f"width={dim}."
            )
        wide = (None, None, dim)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)
        self.norm.build(wide)
        if self.cross and self.normalize_first:
            self.context_norm = keras.layers.LayerNormalization(
                epsilon=1e-6, name="context_norm", dtype=policy
            )
            self.context_norm.build(wide)
        # The bias of the keys shifts all logits of a query alike and so would never train.
        self.query = keras.layers.Dense(dim, name="query", dtype=policy)
        self.key = keras.layers.Dense(dim, use_bias=False, name="key", dtype=policy)
        self.value = keras.layers.Dense(dim, name="value", dtype=policy)
        self.out = keras.layers.Dense(dim, name="out", dtype=policy)
        self.mlp_norm = keras.layers.LayerNormalization(epsilon=1e-6, name="mlp_norm", dtype=policy)
        self.mlp_in = keras.layers.Dense(
            self.intermediate_dim, activation="gelu", name="mlp_in", dtype=policy
        )
        self.mlp_out = keras.layers.Dense(dim, name="mlp_out", dtype=policy)
        for child in (self.query, self.key, self.value, self.out, self.mlp_norm, self.mlp_in):
            child.build(wide)
        self.mlp_out.build((None, None, self.intermediate_dim))
        self.drop = keras.layers.Dropout(self.dropout, name="drop", dtype=policy)

    def call(self, tokens: Any, mask: Any, context: Any = None, training: bool = False) -> Any:
        """Returns the updated tokens."""
        if not (self.remat and training):
            return self._update(tokens, mask, context, [None, None], training)
        # What is dropped is drawn here: the second pass would draw, and drop, something else.
        kept = [None, None]
        if self.dropout:
            kept = [self.drop(ops.ones_like(tokens), training=True) > 0 for _ in kept]
        given = (tokens,) if context is None else (tokens, context)
        return keras.remat(
            lambda tokens, context=None: self._update(tokens, mask, context, kept, training)
        )(*given)

    def _update(self, tokens: Any, mask: Any, context: Any, kept: list, training: bool) -> Any:
        first = self.normalize_first
        query = self.norm(tokens) if first else tokens
        source = query
        if self.cross:
            source = self.context_norm(context) if first else context
        attended = self.out(self._attend(query, source, mask, training))
        tokens = tokens + self._drop(attended, kept[0], training)
        tokens = tokens if first else self.norm(tokens)
        hidden = self.mlp_out(self.mlp_in(self.mlp_norm(tokens) if first else tokens))
        tokens = tokens + self._drop(hidden, kept[1], training)
        return tokens if first else self.mlp_norm(tokens)

    def _drop(self, x: Any, kept: Any, training: bool) -> Any:
        if kept is None:
            return self.drop(x, training=training)
        return ops.where(kept, x / (1.0 - self.dropout), ops.zeros_like(x))

    def _attend(self, query: Any, source: Any, mask: Any, training: bool) -> Any:
        def heads(x: Any) -> Any:  # (B, T, D) -> (B, T, H, D / H)
            shape = (-1, ops.shape(x)[1], self.num_heads, x.shape[-1] // self.num_heads)
            return ops.reshape(x, shape)

        q, k, v = heads(self.query(query)), heads(self.key(source)), heads(self.value(source))

        def attention(q: Any, k: Any, v: Any) -> Any:  # (B, C, H, D / H)
            logits = ops.cast(ops.einsum("bqhd,bkhd->bhqk", q, k), "float32") * q.shape[-1] ** -0.5
            logits = ops.where(mask[:, None, None, :], logits, -1e9)
            weights = ops.cast(ops.softmax(logits, axis=-1), v.dtype)
            return ops.einsum("bhqk,bkhd->bqhd", weights, v)

        length = query.shape[1]
        if self.remat and training and (length or 0) > CHUNK:
            parts = [q[:, i : i + CHUNK] for i in range(0, length, CHUNK)]
            out = ops.concatenate([keras.remat(attention)(p, k, v) for p in parts], axis=1)
        else:
            out = attention(q, k, v)
        return ops.reshape(out, (-1, ops.shape(query)[1], query.shape[-1]))

    def compute_output_shape(
        self, tokens_shape: tuple, mask_shape: tuple = None, context_shape: tuple = None
    ) -> tuple:
        """The tokens' shape stays."""
        return tokens_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "dropout": self.dropout,
            "cross": self.cross,
            "normalize_first": self.normalize_first,
            "remat": self.remat,
        }
