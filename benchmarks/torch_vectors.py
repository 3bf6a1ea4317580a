"""Fusions of vectors on plain PyTorch, and what all fusions there share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


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
