"""Model A behind Python, as a PyTorch user serves it: PIL, a dict of words, `inference_mode`.

PIL decodes on as many threads as there are cores (it lets go of Python's lock).
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks import models
from benchmarks.torch_models import LateFusion


class Answer(LateFusion):
    """Model A without its loss: (pixels, ids) -> logits."""

    def forward(self, image: Any, words: Any) -> Any:
        """Returns (B, classes)."""
        x = F.relu(self.dense(self.picture(image).flatten(1)))
        words = self.lstm(self.embedding(words))[0][:, -1]
        return self.answer(F.relu(self.mix(torch.cat([x, words], 1))))


def model(
    weights: Path,
    x: dict,
    *,
    channels_last: bool = False,
    bfloat16: bool = False,
    how: str = "eager",
) -> Callable[[Any, Any], Any]:
    """Returns (pixels, ids) -> logits, with Keras' weights.

    Args:
        weights: `.npz` of Keras' weights by path and, as `answer`, Keras' logits of `x`.
        x: decoded samples.
        channels_last: the memory format of pictures and convolutions.
        bfloat16: autocast.
        how: "eager", "trace" (frozen) or "compile".

    Raises:
        ValueError: the logits differ from Keras'.
    """
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    made = Answer().eval()
    with np.load(weights) as held:
        _set(made, held)
        expected = held["answer"]
    if channels_last:
        made = made.to(memory_format=torch.channels_last)
    inputs = pixels(list(x["image"]), channels_last), ids(x["words"])
    with torch.inference_mode():
        difference = float(np.abs(made(*inputs).numpy() - expected).max())
    if difference > 1e-4:
        raise ValueError(f"PyTorch's output differs from mmkeras' by {difference:.1e}.")
    cast = {"device_type": "cpu", "dtype": torch.bfloat16, "enabled": bfloat16}
    run = made
    if how == "compile":
        run = torch.compile(made)
    elif how == "trace":
        with torch.no_grad(), torch.autocast(**cast, cache_enabled=False):
            run = torch.jit.freeze(torch.jit.trace(made, inputs))

    def answer(image: Any, words: Any) -> Any:
        with torch.inference_mode(), torch.autocast(**cast):
            return run(image, words).float().numpy()

    return answer


def _set(made: Any, held: Any) -> None:
    """Copies Keras' weights: they are the same layers in the same order."""

    def of(kind: str, name: str) -> list[np.ndarray]:
        paths = [p for p in held.files if p.endswith(f"/{name}") and p.startswith(kind)]
        return [held[path] for path in paths]

    def put(layer: Any, weight: np.ndarray, bias: np.ndarray) -> None:
        layer.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
        layer.bias.data = torch.from_numpy(bias)

    convolutions = [layer for layer in made.picture if isinstance(layer, torch.nn.Conv2d)]
    for layer, kernel, bias in zip(
        convolutions, of("conv2d", "kernel"), of("conv2d", "bias"), strict=True
    ):
        put(layer, kernel.transpose(3, 2, 0, 1), bias)
    first, mix = of("dense", "kernel")
    first = first.reshape(8, 8, 128, 128).transpose(3, 2, 0, 1).reshape(128, -1)  # Keras: H, W, C
    for layer, kernel, bias in zip(
        (made.dense, made.mix), (first, mix.T), of("dense", "bias"), strict=True
    ):
        put(layer, kernel, bias)
    put(made.answer, of("answer", "kernel")[0].T, of("answer", "bias")[0])
    made.embedding.weight.data = torch.from_numpy(of("embedding", "embeddings")[0])
    lstm = made.lstm
    lstm.weight_ih_l0.data = torch.from_numpy(_gates(of("lstm", "kernel")[0]))
    lstm.weight_hh_l0.data = torch.from_numpy(_gates(of("lstm", "recurrent_kernel")[0]))
    lstm.bias_ih_l0.data = torch.from_numpy(of("lstm", "bias")[0])
    lstm.bias_hh_l0.data = torch.zeros_like(lstm.bias_hh_l0)


def _gates(kernel: np.ndarray) -> np.ndarray:
    """Keras' (in, 4 x units) as PyTorch's (4 x units, in): both order input, forget, cell, out."""
    return np.ascontiguousarray(kernel.T)


def pixels(pictures: Sequence[np.ndarray], channels_last: bool) -> Any:
    """Returns (B, 3, H, W) float32 in 0..1."""
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    form = torch.channels_last if channels_last else torch.contiguous_format
    return batch.to(torch.float32).div_(255).contiguous(memory_format=form)


def ids(words: np.ndarray) -> Any:
    """Returns int64 token ids."""
    return torch.from_numpy(np.asarray(words, "int64"))


def preprocessing(vocabulary: Sequence[str], channels_last: bool) -> Callable[[dict], tuple]:
    """Returns raw request -> (pixels, ids), as it is usually written."""
    number = {word: i for i, word in enumerate(vocabulary)}
    threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def one(data: bytes) -> np.ndarray:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR))

    def prepare(raw: dict) -> tuple:
        tokens = np.zeros((len(raw["words"]), models.TOKENS), "int64")
        for row, text in enumerate(raw["words"]):
            found = [number.get(word, 1) for word in text.lower().split()][: models.TOKENS]
            tokens[row, : len(found)] = found
        read = threads.map if len(raw["image"]) > 1 else map
        return pixels(list(read(one, raw["image"])), channels_last), ids(tokens)

    return prepare
