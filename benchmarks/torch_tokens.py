"""Fusions of tokens on plain PyTorch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.torch_vectors import Fusion

HEADS = 4


class Block(nn.Module):
    """A pre-norm transformer block, for self-attention or cross-attention."""

    def __init__(self, dim: int, wide: int, cross: bool = False) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.context_norm = nn.LayerNorm(dim, 1e-6) if cross else None
        self.query, self.value, self.out = (nn.Linear(dim, dim) for _ in range(3))
        self.key = nn.Linear(dim, dim, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(dim, wide), nn.Linear(wide, dim)

    def forward(self, x: Any, context: Any = None) -> Any:
        """Returns the updated tokens."""
        q = self.norm(x)
        source = q if context is None else self.context_norm(context)
        parts = (self.query(q), self.key(source), self.value(source))
        heads = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        x = x + self.out(attended)
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


def in_front(vectors: Any, x: Any) -> Any:
    """Learned vectors before a sequence."""
    return torch.cat([vectors.expand(len(x), -1, -1), x], 1)


class FiLM(Fusion):
    """x + gelu((1 + gamma) * norm(W_b gelu(W_a x)) + beta), then W [mean(x); max(x)]."""

    layers = 2

    def _make(self) -> None:
        for i in range(self.layers):
            self.linear(f"before{i}", self.dim)
            self.linear(f"inside{i}", self.dim, bias=False)
            self.linear(f"film{i}", (len(self.names) - 1) * self.dim, 2 * self.dim)
        self.linear("out", 2 * self.dim)

    def _fuse(self, x: dict) -> Any:
        target, others = x[self.names[0]], torch.cat(self.means(x)[1:], 1)
        for i in range(self.layers):
            gamma, beta = self[f"film{i}"](others)[:, None].chunk(2, -1)
            h = self[f"inside{i}"](F.gelu(self[f"before{i}"](target)))
            h = (1.0 + gamma) * F.layer_norm(h, (self.dim,), eps=1e-6) + beta
            target = target + F.gelu(h, approximate="tanh")
        return self["out"](torch.cat([target.mean(1), target.amax(1)], 1))


class LateTransformer(Fusion):
    """Self-attention over [CLS] and all tokens with type embeddings; the normalised [CLS]."""

    def _make(self) -> None:
        self.learned("cls", 1, 1)
        self.learned("types", len(self.names))
        for i in range(2):
            self[f"block{i}"] = Block(self.dim, 2 * self.dim)
        self["norm"] = nn.LayerNorm(self.dim, 1e-6)

    def _fuse(self, x: dict) -> Any:
        x = in_front(self.cls, torch.cat([x[m] + self.types[i] for i, m in enumerate(x)], 1))
        for i in range(2):
            x = self[f"block{i}"](x)
        return self["norm"](x[:, 0])


class CrossAttention(Fusion):
    """The tokens of the first modality attend to those of the others; their normalised mean."""

    def _make(self) -> None:
        self.learned("nothing", 1, 1)
        self["block0"] = Block(self.dim, 2 * self.dim, cross=True)
        self["norm"] = nn.LayerNorm(self.dim, 1e-6)

    def _fuse(self, x: dict) -> Any:
        context = in_front(self.nothing, torch.cat([x[m] for m in self.names[1:]], 1))
        return self["norm"](self["block0"](x[self.names[0]], context)).mean(1)


class AttentionPooling(Fusion):
    """A learned query attends to all tokens; the normalised query."""

    def _make(self) -> None:
        self.learned("queries", 1, 1)
        self.learned("nothing", 1, 1)
        self["block0"] = Block(self.dim, 2 * self.dim, cross=True)
        self["norm"] = nn.LayerNorm(self.dim, 1e-6)

    def _fuse(self, x: dict) -> Any:
        context = in_front(self.nothing, torch.cat(list(x.values()), 1))
        query = self.queries.expand(len(context), -1, -1)
        return self["norm"](self["block0"](query, context)).mean(1)


class PerceiverResampler(Fusion):
    """Latents attend to [latents; tokens], layer by layer; their normalised mean."""

    def _make(self) -> None:
        self.learned("latents", 1, 8)
        self.learned("types", len(self.names))
        for i in range(2):
            self[f"block{i}"] = Block(self.dim, 2 * self.dim, cross=True)
        self["norm"] = nn.LayerNorm(self.dim, 1e-6)

    def _fuse(self, x: dict) -> Any:
        tokens = torch.cat([x[m] + self.types[i] for i, m in enumerate(x)], 1)
        latents = self.latents.expand(len(tokens), -1, -1)
        for i in range(2):
            latents = self[f"block{i}"](latents, torch.cat([latents, tokens], 1))
        return self["norm"](latents).mean(1)


class MulT(Fusion):
    """Each modality attends to each other, then to itself; the first tokens are mixed."""

    def _make(self) -> None:
        wide = (len(self.names) - 1) * self.dim
        for a in self.names:
            self.learned(f"{a}_first", 1, 1)
            for b in self._others(a):
                self[f"{a}_from_{b}_block0"] = Block(self.dim, 2 * self.dim, cross=True)
            self[f"{a}_memory0"] = Block(wide, 2 * wide)
            self[f"{a}_norm"] = nn.LayerNorm(wide, 1e-6)
            self.linear(f"{a}_out", wide)

    def _others(self, a: str) -> list[str]:
        return [b for b in self.names if b != a]

    def _fuse(self, x: dict) -> Any:
        x = {m: in_front(getattr(self, f"{m}_first"), v) for m, v in x.items()}
        pooled = 0.0
        for a in self.names:
            z = [self[f"{a}_from_{b}_block0"](x[a], x[b]) for b in self._others(a)]
            z = self[f"{a}_memory0"](torch.cat(z, -1))
            pooled = pooled + self[f"{a}_out"](self[f"{a}_norm"](z[:, 0]))
        return pooled


class Bottleneck(Fusion):
    """A transformer per modality over [bottleneck; its tokens]; the bottleneck is averaged."""

    count = 4

    def _make(self) -> None:
        self.learned("bottleneck", 1, self.count)
        for m in self.names:
            self.learned(f"{m}_cls", 1, 1)
            for i in range(2):
                self[f"{m}_block{i}"] = Block(self.dim, 2 * self.dim)
        self["norm"] = nn.LayerNorm(self.dim, 1e-6)

    def _fuse(self, x: dict) -> Any:
        x = {m: in_front(getattr(self, f"{m}_cls"), v) for m, v in x.items()}
        shared = self.bottleneck
        for i in range(2):
            z = {m: self[f"{m}_block{i}"](in_front(shared, x[m])) for m in self.names}
            shared = sum(v[:, : self.count] for v in z.values()) / len(z)
            x = {m: v[:, self.count :] for m, v in z.items()}
        return self["norm"](torch.stack([x[m][:, 0] for m in self.names], 1)).mean(1)
