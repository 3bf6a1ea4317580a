"""Fusions on plain PyTorch, from the formulas in the docstrings of `mmkeras.fusion`.

Written as their users write them: modules without masks, modalities that are all there. The names
of the children are those of mmkeras, so that its weights can be loaded.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HEADS = 4


class Fusion(nn.ModuleDict):
    """Children by the names of mmkeras; the projections of all fusions."""

    def __init__(self, names: tuple[str, ...], dim: int) -> None:
        super().__init__()
        self.names, self.dim = names, dim
        for m in names:
            self.linear(f"{m}_projection", dim)
        self._make()

    def _make(self) -> None:
        """Makes the children of a fusion; `_fuse` is its formula on the projected tokens."""

    def linear(self, name: str, inputs: int, outputs: int | None = None, bias: bool = True) -> None:
        """Adds a linear layer."""
        self[name] = nn.Linear(inputs, outputs or self.dim, bias=bias)

    def learned(self, name: str, *rows: int) -> None:
        """Adds learned vectors (*rows, D)."""
        self.register_parameter(name, nn.Parameter(torch.zeros(*rows, self.dim)))

    def means(self, x: dict) -> list:
        """The mean of each modality."""
        return [x[m].mean(1) for m in self.names]

    def forward(self, inputs: dict) -> Any:
        """Returns pooled (B, D)."""
        return self._fuse({m: self[f"{m}_projection"](inputs[m]) for m in self.names})


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


class Sum(Fusion):
    """pooled = sum_m x_m."""

    def _fuse(self, x: dict) -> Any:
        return sum(self.means(x))


class Concatenation(Fusion):
    """pooled = W2 gelu(W1 [x_1; ...; x_M])."""

    def _make(self) -> None:
        self.linear("mix", len(self.names) * self.dim)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        return self["out"](F.gelu(self["mix"](torch.cat(self.means(x), 1))))


class Gated(Fusion):
    """pooled = sum_m sigmoid(V_m [x_1; ...; x_M]) * tanh(W_m x_m)."""

    def _make(self) -> None:
        for m in self.names:
            self.linear(f"{m}_value", self.dim)
            self.linear(f"{m}_gate", len(self.names) * self.dim)

    def _fuse(self, x: dict) -> Any:
        means = self.means(x)
        both = torch.cat(means, 1)
        named = zip(self.names, means, strict=True)
        return sum(
            torch.sigmoid(self[f"{m}_gate"](both)) * torch.tanh(self[f"{m}_value"](v))
            for m, v in named
        )


class Tensor(Fusion):
    """pooled = W_2 relu(W_1 vec([1; z_1] (x) ... (x) [1; z_M])), z_m = tanh(A_m x_m)."""

    def _make(self) -> None:
        count = len(self.names)
        width = max(t for t in range(4096) if (t + 1) ** count <= 4096)
        width = min(width, self.dim)
        for m in self.names:
            self.linear(f"{m}_narrow", self.dim, width)
        self.linear("hidden", (width + 1) ** count)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        whole = None
        for m, v in zip(self.names, self.means(x), strict=True):
            z = F.pad(torch.tanh(self[f"{m}_narrow"](v)), (1, 0), value=1.0)
            whole = z if whole is None else torch.einsum("bi,bj->bij", whole, z).flatten(1)
        return self["out"](F.relu(self["hidden"](whole)))


class LowRank(Fusion):
    """pooled = sum_r w_r prod_m ([1; x_m] F_m,r) + b."""

    rank = 4

    def _make(self) -> None:
        for m in self.names:
            self.linear(f"{m}_factor", self.dim, self.rank * self.dim)
        self.ranks = nn.Parameter(torch.zeros(self.rank))
        self.bias = nn.Parameter(torch.zeros(self.dim))

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            product = product * self[f"{m}_factor"](v)
        product = product.unflatten(1, (self.rank, self.dim))
        return torch.einsum("brd,r->bd", product, self.ranks) + self.bias


class MLB(Fusion):
    """pooled = P (tanh(U_1 x_1) * ... * tanh(U_M x_M))."""

    def _make(self) -> None:
        for m in self.names:
            self.linear(f"{m}_factor", self.dim)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            product = product * torch.tanh(self[f"{m}_factor"](v))
        return self["out"](product)


def unit_scale(u: Any) -> Any:
    """Scaled to a root mean square of 1."""
    return u * torch.rsqrt(u.square().mean(-1, keepdim=True) + 1e-3)


def power_norm(z: Any) -> Any:
    """The signed root, then l2."""
    z = z / (z.square() + 1e-4) ** 0.25
    return z * torch.rsqrt(z.square().sum(-1, keepdim=True) + 1e-3)


class MFB(Fusion):
    """pooled = W norm(SumPool(u_1 * ... * u_M, k)), norm the signed root, then l2."""

    factors = 5

    def _make(self) -> None:
        for m in self.names:
            self.linear(f"{m}_wide", self.dim, self.factors * self.dim)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            product = product * unit_scale(self[f"{m}_wide"](v))
        return self["out"](power_norm(product.unflatten(1, (self.dim, self.factors)).sum(-1)))


class MFH(Fusion):
    """A cascade of MFB blocks, each of which multiplies by the product of the one before."""

    blocks, factors = 2, 5

    def _make(self) -> None:
        for i in range(self.blocks):
            for m in self.names:
                self.linear(f"{m}_wide{i}", self.dim, self.factors * self.dim)
        self.linear("out", self.blocks * self.dim)

    def _fuse(self, x: dict) -> Any:
        product, found, means = 1.0, [], self.means(x)
        for i in range(self.blocks):
            for m, v in zip(self.names, means, strict=True):
                product = product * unit_scale(self[f"{m}_wide{i}"](v))
            found.append(power_norm(product.unflatten(1, (self.dim, self.factors)).sum(-1)))
        return self["out"](torch.cat(found, 1))


class BlockTerm(Fusion):
    """pooled = W_o [z_1; ...; z_C], z_c = norm(sum_r prod_m N_m,c,r y_m,c)."""

    blocks, width, rank = 4, 16, 5

    def _make(self) -> None:
        wide = self.rank * self.width
        for m in self.names:
            self.linear(f"{m}_side", self.dim, self.blocks * self.width)
            core = nn.Parameter(torch.zeros(self.blocks, self.width, wide))
            self.register_parameter(f"{m}_core", core)
            self.register_parameter(f"{m}_shift", nn.Parameter(torch.zeros(self.blocks, wide)))
        self.linear("out", self.blocks * self.width)

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            chunks = self[f"{m}_side"](v).unflatten(1, (self.blocks, self.width))
            core, shift = getattr(self, f"{m}_core"), getattr(self, f"{m}_shift")
            product = product * unit_scale(torch.einsum("bct,ctk->bck", chunks, core) + shift)
        z = product.unflatten(2, (self.rank, self.width)).sum(2)
        return self["out"](power_norm(z).flatten(1))


class CompactBilinear(Fusion):
    """pooled = W norm(irfft(prod_m rfft(sketch_m(x_m)))), count sketches as indexed sums."""

    def _make(self) -> None:
        self.size = 8 * self.dim
        for m in self.names:
            self.register_buffer(f"{m}_hash", torch.zeros(self.dim, dtype=torch.int32))
            self.register_buffer(f"{m}_sign", torch.zeros(self.dim))
        self.linear("out", self.size)

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            sketch = torch.zeros(len(v), self.size).index_add(
                1, getattr(self, f"{m}_hash"), unit_scale(v) * getattr(self, f"{m}_sign")
            )
            product = product * torch.fft.rfft(sketch)
        return self["out"](power_norm(torch.fft.irfft(product, self.size)))


class Multiplicative(Fusion):
    """pooled = W_o f_M, f_m = f_(m-1) (W_m x_m + V_m) + U_m x_m."""

    def _make(self) -> None:
        for m in self.names[1:]:
            self.linear(f"{m}_map", self.dim, self.dim**2)
            self.linear(f"{m}_shift", self.dim)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        f, *others = self.means(x)
        for m, v in zip(self.names[1:], others, strict=True):
            matrix = self[f"{m}_map"](v).unflatten(1, (self.dim, self.dim))
            f = torch.einsum("bi,bij->bj", f, matrix) + self[f"{m}_shift"](v)
        return self["out"](f)


class SqueezeExcitation(Fusion):
    """pooled = 1/M sum_m 2 sigmoid(V_m z) * x_m, z = W [x_1; ...; x_M]."""

    ratio = 4

    def _make(self) -> None:
        width = len(self.names) * self.dim
        self.linear("squeeze", width, width // self.ratio)
        for m in self.names:
            self.linear(f"{m}_gate", width // self.ratio)

    def _fuse(self, x: dict) -> Any:
        means = self.means(x)
        z, named = self["squeeze"](torch.cat(means, 1)), zip(self.names, means, strict=True)
        return sum(2.0 * torch.sigmoid(self[f"{m}_gate"](z)) * v for m, v in named) / len(means)


class MUTAN(Fusion):
    """pooled = W_o 1/R sum_r prod_m N_m,r tanh(W_m x_m)."""

    rank = 5

    def _make(self) -> None:
        for m in self.names:
            self.linear(f"{m}_side", self.dim)
            self.linear(f"{m}_core", self.dim, self.rank * self.dim)
        self.linear("out", self.dim)

    def _fuse(self, x: dict) -> Any:
        product = 1.0
        for m, v in zip(self.names, self.means(x), strict=True):
            product = product * self[f"{m}_core"](torch.tanh(self[f"{m}_side"](v)))
        return self["out"](product.unflatten(1, (self.rank, self.dim)).mean(1))


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


FUSIONS = {
    "attention_pooling": AttentionPooling,
    "block": BlockTerm,
    "bottleneck": Bottleneck,
    "compact_bilinear": CompactBilinear,
    "concatenation": Concatenation,
    "cross_attention": CrossAttention,
    "film": FiLM,
    "gated": Gated,
    "late_transformer": LateTransformer,
    "low_rank": LowRank,
    "mfb": MFB,
    "mfh": MFH,
    "mlb": MLB,
    "mult": MulT,
    "multiplicative": Multiplicative,
    "mutan": MUTAN,
    "perceiver_resampler": PerceiverResampler,
    "squeeze_excitation": SqueezeExcitation,
    "sum": Sum,
    "tensor_fusion": Tensor,
}
LAST = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
"""Keras' names of weights -> PyTorch's."""


def loaded(name: str, tokens: dict[str, np.ndarray], file: Path) -> tuple[Fusion, np.ndarray]:
    """Returns a fusion with the weights of mmkeras, all of its parameters, and mmkeras' output."""
    module = FUSIONS[name](tuple(tokens), next(iter(tokens.values())).shape[-1])
    state = {}
    with np.load(file) as held:
        pooled = held["pooled"]
        for path in held.files:
            *parts, last = path.split("/")
            if path == "pooled" or last == "token":  # the absent tokens: nothing is absent
                continue
            value = torch.from_numpy(held[path])
            key = ".".join([*parts, LAST.get(last, last)])
            state[key] = value.T if last == "kernel" else value
    module.load_state_dict(state)
    return module, pooled


def works(name: str, tokens: dict[str, np.ndarray], file: Path) -> dict[str, Callable]:
    """Returns what is measured; raises ValueError unless the outputs are those of mmkeras."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    module, pooled = loaded(name, tokens, file)
    x = {m: torch.from_numpy(value).requires_grad_() for m, value in tokens.items()}
    few = {m: torch.from_numpy(value[:1]).requires_grad_() for m, value in tokens.items()}

    def forward() -> Any:
        with torch.inference_mode():
            return module(x)

    def step(x: dict) -> Any:
        loss = module(x).square().mean()
        return torch.autograd.grad(loss, [*x.values(), *module.parameters()])

    with torch.inference_mode():
        found = module({m: value[: len(pooled)] for m, value in x.items()}).numpy()
    gap = float(np.abs(found - pooled).max())
    if not gap <= 1e-4:
        raise ValueError(f"{name}: PyTorch's output differs from mmkeras' by {gap:.3g}.")
    return {"forward": forward, "step": lambda: step(x), "small": lambda: step(few)}
