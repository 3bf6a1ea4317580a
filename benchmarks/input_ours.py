"""mmkeras in the benchmark `input`: its public pipeline, nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import mmkeras as mk
from benchmarks.common import steady
from benchmarks.input_data import LENGTH, SOUND_HZ, SOUND_SECONDS, read_lines, read_sounds

CROP = {"scale": (0.3, 1.0), "ratio": (3 / 4, 4 / 3)}


def captions(folder: str) -> mk.Text:
    """Returns the spec of the captions."""
    vocabulary = read_lines(folder, "vocabulary.txt")
    return mk.Text(length=LENGTH, tokenizer="wordpiece", vocabulary=vocabulary)


def pairs(folder: str, batch: int = 64) -> Callable[[], float]:
    """P1: JPEG files and captions -> uint8 (B, 224, 224, 3) and ids (B, 32)."""
    augment = {"random_resized_crop": CROP}
    specs = {"picture": mk.Image(size=224, augment=augment), "caption": captions(folder)}
    dataset = mk.data.table(Path(folder) / "pairs.csv", specs).train(batch)
    return _epoch(dataset, lambda batch: len(batch[0]["caption"]))


def sounds(folder: str, batch: int = 64, save: str | None = None) -> Callable[[], float]:
    """P2: WAV bytes -> standardised log-mel (B, 98, 40), by the audio encoders' layer.

    The layer is mapped over the batches, so that a batch costs one call from Python, as it does
    where the layer runs within the model's step.
    """
    spec = mk.Audio(rate_hz=SOUND_HZ, seconds=SOUND_SECONDS)
    data = mk.data.table({"sound": read_sounds(folder)}, {"sound": spec})
    layer = mk.layers.LogMel(spec.rate_hz, num_bands=spec.num_bands)

    def features(x: dict) -> Any:
        return layer(x["sound"], x["sound_mask"])[0]

    if save:
        held = list(data.batches("train", batch).map(features).as_numpy_iterator())
        np.save(save, np.concatenate(held))
    return _epoch(data.train(batch).map(features), len)


def text(folder: str, batch: int = 4096, save: str | None = None) -> Callable[[], float]:
    """P3: lines -> word-piece ids (B, 32); the rate is in MB/s."""
    lines = read_lines(folder)
    data = mk.data.table({"line": lines}, {"line": captions(folder)})
    if save:
        held = np.concatenate([x["line"].numpy() for (x,) in data.batches("train", batch)])
        np.save(save, held)
    size = sum(len(line.encode()) for line in lines) / len(lines) / 1e6
    return _epoch(data.train(batch), lambda parts: len(parts[0]["line"]) * size)


def _epoch(dataset: Any, count: Callable[[Any], float]) -> Callable[[], float]:
    def work() -> float:
        return steady(dataset, len(dataset), count)

    work()
    return work
