"""`profile`: how fast every stage of the input is, which one holds training up, what to change."""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, checks
from mmkeras.data.augment import augmenter
from mmkeras.data.columns import read_files
from mmkeras.data.dataset import Data
from mmkeras.data.draws import Draws
from mmkeras.data.options import tuned, tuned_map
from mmkeras.data.reader import Reader


@dataclass(frozen=True)
class InputProfile:
    """What `profile` measured; `print(report)` shows it.

    Attributes:
        batch_size: rows per batch; None when a dataset was given.
        rates: stage -> samples/s, each stage measured by itself with the whole machine.
        bottleneck: the stage that limits training.
        advice: what to change, the most useful first.
    """

    batch_size: int | None
    rates: dict[str, float]
    bottleneck: str
    advice: tuple[str, ...]

    def __str__(self) -> str:
        """The rates as a table, the bottleneck and the advice."""
        width = max(map(len, self.rates))
        lines = [f"{'stage':{width}}  samples/s  ms per 1000"]
        for stage, rate in self.rates.items():
            mark = "  <- bottleneck" if stage == self.bottleneck else ""
            lines.append(f"{stage:{width}} {rate:10.0f} {1e6 / rate:12.1f}{mark}")
        return "\n".join([*lines, *(f"- {text}" for text in self.advice)])


def profile(
    data: Data | tf.data.Dataset,
    *,
    batch_size: int = 64,
    model: keras.Model | None = None,
    seconds: float = 2.0,
    log_dir: str | os.PathLike | None = None,
) -> InputProfile:
    """Measures the stages of an input pipeline and, with a compiled model, its training step.

    Of a `Data`: reading files, decoding and augmenting each modality, the whole pipeline as `fit`
    reads it, and the step on a batch that is held in memory. Of a `tf.data.Dataset` (finite or
    not): its rate, and the step. The model's weights and optimizer are put back afterwards.

    Args:
        data: what `mk.data.table` returned, or any dataset of batches `(x, y)`.
        batch_size: rows per batch of a `Data`.
        model: compiled.
        seconds: time per stage.
        log_dir: writes the report and the rates for TensorBoard there.

    Raises:
        TypeError: neither a `Data` nor a dataset.
        ValueError: a model that is not compiled.
    """
    seconds = checks.real("seconds", seconds, 0.01)
    if model is not None and not getattr(model, "compiled", False):
        raise ValueError("`model` must be compiled, so that it has a step. Call model.compile().")
    if isinstance(data, Data):
        batch_size = min(checks.whole("batch_size", batch_size), len(data.splits["train"]))
        rates = _stages(data, batch_size, seconds)
        batches, stages = data.train(batch_size).stream(), data.modalities
    elif isinstance(data, tf.data.Dataset):
        batch_size, rates, batches, stages = None, {}, data.repeat(), {}
    else:
        raise TypeError(
            "`profile` takes what mk.data.table(...) returned, or a tf.data.Dataset of batches. "
            f"Received: {type(data).__name__}."
        )
    rates["pipeline"] = _rate(iter(batches), seconds)
    if model is not None:
        rates["step"] = _step_rate(model, next(iter(batches)), seconds)
    bottleneck = _bottleneck(rates)
    made = InputProfile(batch_size, rates, bottleneck, _advice(rates, bottleneck, stages, data))
    if log_dir is not None:
        _write(made, log_dir)
    return made


def _stages(data: Data, batch_size: int, seconds: float) -> dict[str, float]:
    """Returns the rate of every part of the pipeline by itself."""
    rates = {}
    for name, spec in data.modalities.items():
        column = data.splits["train"].columns[name]
        reader, rows = Reader(spec, column), len(column.index)
        index = np.resize(np.random.default_rng(0).permutation(rows), max(rows, 64 * batch_size))
        batches = tf.data.Dataset.from_tensor_slices(index)
        batches = batches.repeat().batch(batch_size, drop_remainder=True)

        def rate(work: Callable, batches: tf.data.Dataset = batches) -> float:
            return _rate(iter(tuned_map(batches, work)), seconds)

        if column.form == "path":
            rates[f"read {name}"] = rate(
                lambda r, held=reader: read_files(
                    tf.gather(held.items, tf.reshape(tf.gather(held.index, r), [-1]))
                )
            )
        rates[f"decode {name}"] = rate(reader)
        if augment := augmenter(spec):
            held = reader(index[:batch_size])
            rates[f"augment {name}"] = rate(
                lambda r, f=augment, held=held: f(
                    *held, Draws(tf.cast(tf.stack([r[0], 1]), tf.uint32))
                )
            )
    return rates


def _rate(batches: Iterator, seconds: float) -> float:
    """Returns samples/s after two batches to start."""
    for _ in range(2):
        next(batches)
    start, count = time.perf_counter(), 0
    while True:
        count += _rows(next(batches))
        passed = time.perf_counter() - start
        if passed >= seconds:
            return count / passed


def _rows(batch: Any) -> int:
    return tf.nest.flatten(batch)[0].shape[0]


class _Clock(keras.callbacks.Callback):
    """Stops `fit` after some seconds, of which the first two steps do not count."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.start, self.steps = seconds, None, -2

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Counts; Keras has read the logs, so the step has ended."""
        self.steps += 1
        if self.steps == 0:
            self.start = time.perf_counter()
        self.passed = 0.0 if self.start is None else time.perf_counter() - self.start
        self.model.stop_training = self.steps > 0 and self.passed >= self.seconds


def _step_rate(model: keras.Model, batch: Any, seconds: float) -> float:
    """Returns samples/s of training on one batch again and again; the model is left as it was."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    held = [keras.ops.convert_to_numpy(v) for v in variables]
    clock = _Clock(seconds)
    try:
        dataset = tuned(tf.data.Dataset.from_tensors(batch).repeat())
        model.fit(dataset, steps_per_epoch=10**6, epochs=1, verbose=0, callbacks=[clock])
    finally:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)
        model.stop_training = False
        model.reset_metrics()
    return clock.steps * _rows(batch) / clock.passed


def _bottleneck(rates: dict[str, float]) -> str:
    if rates.get("step", math.inf) <= rates["pipeline"]:
        return "step"
    parts = {stage: rate for stage, rate in rates.items() if stage not in ("step", "pipeline")}
    slowest = min(parts, key=parts.get, default="pipeline")
    # Where no stage explains the whole, it is what stands between them.
    return slowest if parts and parts[slowest] < 3 * rates["pipeline"] else "pipeline"


def _advice(
    rates: dict[str, float], bottleneck: str, specs: dict[str, Modality], data: Any
) -> tuple[str, ...]:
    """Returns sentences on what to change."""
    said = []
    if "step" in rates:
        ratio = rates["pipeline"] / rates["step"]
        state = "keeps up with" if ratio >= 1.0 else "holds up"
        said.append(f"The input {state} the step: {ratio:.1f} times its rate.")
    if bottleneck == "step":
        return (*said, "Speed the step up: compile(jit=...), mixed precision, a larger batch.")
    stage, _, name = bottleneck.partition(" ")
    spec = specs.get(name)
    cached = spec is not None and data.splits["train"].columns[name].form == "decoded"
    if stage == "read":
        said.append("Files are slow to read: data.cache('folder') on a fast disk, or archive=.")
    elif stage == "augment":
        said.append(f"Augmentation of {name!r} costs most: drop what it can do without.")
    elif stage == "decode" and not cached:
        if spec.kind == "image" and spec.resize == "bilinear":
            said.append(f"mk.Image(resize='area') for {name!r}: as free of aliasing, and cheaper.")
        said.append(f"Decode {name!r} once: data.cache(), or data.cache('folder') beyond memory.")
    elif bottleneck == "pipeline" and not specs:
        said.append("Batch before work on strings and sounds; cache() what does not change.")
    if bottleneck == "pipeline" or cached:
        said.append("A larger batch shares the cost per batch among more rows.")
    return (*said, "More cores, here or on other machines (tf.data service), decode side by side.")


def _write(made: InputProfile, log_dir: str | os.PathLike) -> None:
    with tf.summary.create_file_writer(str(Path(log_dir) / "input")).as_default(step=0):
        text = str(made).replace("\n", "\n    ")
        tf.summary.text("input/profile", f"    {text}")
        for stage, rate in made.rates.items():
            tf.summary.scalar(f"input/{stage} (samples per s)", rate)
