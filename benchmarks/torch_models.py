"""The models of `benchmarks/models.py` on PyTorch, as a PyTorch user writes them for speed."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import models


class LateFusion(nn.Module):
    """Model A."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        stages = [
            (nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            for a, b in zip(widths, widths[1:], strict=False)
        ]
        self.picture = nn.Sequential(*(layer for stage in stages for layer in stage))
        self.dense = nn.Linear(128 * 64, 128)
        self.embedding = nn.Embedding(models.WORDS, 32)
        self.lstm = nn.LSTM(32, 32, batch_first=True)
        self.mix = nn.Linear(160, 64)
        self.answer = nn.Linear(64, models.CLASSES)

    def forward(self, batch: dict) -> Any:
        """Returns the loss."""
        x = F.relu(self.dense(self.picture(batch["image"]).flatten(1)))
        words = self.lstm(self.embedding(batch["words"]))[0][:, -1]
        x = F.relu(self.mix(torch.cat([x, words], 1)))
        return F.cross_entropy(self.answer(x).float(), batch["target"])


class Block(nn.Module):
    """A pre-norm transformer block with PyTorch's fused attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Any, mask: Any = None) -> Any:
        """Returns the updated tokens."""
        qkv = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x))


class Clip(nn.Module):
    """Model B."""

    def __init__(self) -> None:
        super().__init__()
        width, heads = models.WIDTH, models.HEADS
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.image_positions = nn.Parameter(0.02 * torch.randn(64, width))
        self.image = nn.ModuleList(Block(width, heads) for _ in range(6))
        self.embedding = nn.Embedding(models.CLIP_WORDS, width)
        self.positions = nn.Parameter(0.02 * torch.randn(models.LONGEST, width))
        self.words = nn.ModuleList(Block(width, heads) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.joint = nn.ModuleList(nn.Linear(width, models.JOINT, bias=False) for _ in range(2))
        self.scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))

    def forward(self, batch: dict) -> Any:
        """Returns the loss."""
        x = self.patches(batch["image"]).flatten(2).transpose(1, 2) + self.image_positions
        for block in self.image:
            x = block(x)
        image = self.norms[0](x).mean(1)
        words, mask = batch["words"], batch["words_mask"]
        x = self.embedding(words) + self.positions[: words.shape[1]]
        for block in self.words:
            x = block(x, mask[:, None, None])
        weights = mask[..., None].to(x.dtype)
        text = (self.norms[1](x) * weights).sum(1) / weights.sum(1)
        image, text = (
            F.normalize(dense(v).float(), dim=-1)
            for dense, v in zip(self.joint, (image, text), strict=True)
        )
        logits = self.scale.exp() * image @ text.T
        rows = batch["target"]
        return (F.cross_entropy(logits, rows) + F.cross_entropy(logits.T, rows)) / 2


def batches(made: list, channels_last: bool = False) -> list[dict]:
    """Returns the batches of `benchmarks.models` as tensors, pictures channels first."""
    out = []
    for x, y in made:
        image = torch.from_numpy(x["image"]).permute(0, 3, 1, 2)
        image = image.contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )
        rest = {k: torch.from_numpy(v) for k, v in x.items() if k != "image"}
        rest["words"] = rest["words"].long()
        (target,) = (torch.from_numpy(v).long() for v in y.values())
        out.append({"image": image, **rest, "target": target})
    return out


def step(
    kind: str, *, compiled: bool = False, bfloat16: bool = False, channels_last: bool = False
) -> Any:
    """Returns a function that takes one AdamW step on a batch."""
    torch.manual_seed(0)
    model = {"late_fusion": LateFusion, "clip": Clip}[kind]()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    run = torch.compile(model) if compiled else model

    def one(batch: dict) -> Any:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = run(batch)
        loss.backward()
        optimizer.step()
        return loss

    return one
