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

from benchmarks import torch_tokens, torch_vectors

FUSIONS = {
    "attention_pooling": torch_tokens.AttentionPooling,
    "block": torch_vectors.BlockTerm,
    "bottleneck": torch_tokens.Bottleneck,
    "compact_bilinear": torch_vectors.CompactBilinear,
    "concatenation": torch_vectors.Concatenation,
    "cross_attention": torch_tokens.CrossAttention,
    "film": torch_tokens.FiLM,
    "gated": torch_vectors.Gated,
    "late_transformer": torch_tokens.LateTransformer,
    "low_rank": torch_vectors.LowRank,
    "mfb": torch_vectors.MFB,
    "mfh": torch_vectors.MFH,
    "mlb": torch_vectors.MLB,
    "mult": torch_tokens.MulT,
    "multiplicative": torch_vectors.Multiplicative,
    "mutan": torch_vectors.MUTAN,
    "perceiver_resampler": torch_tokens.PerceiverResampler,
    "squeeze_excitation": torch_vectors.SqueezeExcitation,
    "sum": torch_vectors.Sum,
    "tensor_fusion": torch_vectors.Tensor,
}
LAST = {"kernel": "weight", "gamma": "weight", "beta": "bias"}
"""Keras' names of weights -> PyTorch's."""


def loaded(
    name: str, tokens: dict[str, np.ndarray], file: Path
) -> tuple[torch_vectors.Fusion, np.ndarray]:
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
