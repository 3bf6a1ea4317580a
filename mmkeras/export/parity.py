"""The proof of an export: a fresh process without Keras against Keras on the training path."""

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data import decoder
from mmkeras.export.answers import served

_ANSWER = Path(__file__).with_name("answer.py")


def ask(
    path: str | os.PathLike, raw: Mapping[str, Any], signature: str = "serving_default"
) -> dict[str, np.ndarray]:
    """Returns the answer of a SavedModel, computed in a new process with TensorFlow alone.

    Args:
        path: folder of the SavedModel.
        raw: input name -> encoded bytes, texts or numbers, B of each; inputs may be left out.
        signature: which of the model's signatures is asked; see `saved_model`.

    Raises:
        RuntimeError: the process failed; the text ends with its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "request.json", Path(folder) / "answer.json"
        question.write_text(json.dumps(request(raw)))
        done = subprocess.run(
            [sys.executable, "-P", _ANSWER, path, question, answer, signature],
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        if done.returncode:
            raise RuntimeError(
                f"The SavedModel {os.fspath(path)!r} did not answer: {done.stderr[-2000:]}"
            )
        outputs = json.loads(answer.read_text())
    return {name: np.asarray(value) for name, value in outputs.items()}


def request(raw: Mapping[str, Any]) -> dict[str, list]:
    """Returns raw items as JSON, bytes as {"b64": ...} as in TF Serving's REST interface."""
    return {name: [_plain(item) for item in items] for name, items in raw.items()}


def _plain(item: Any) -> Any:
    if isinstance(item, str):
        item = item.encode("utf-8")
    if isinstance(item, bytes):
        return {"b64": base64.b64encode(item).decode("ascii")}
    if np.asarray(item).dtype.kind in "OSU":  # several strings of one sample
        return [_plain(part) for part in item]
    return np.asarray(item).tolist()


def check_parity(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    path: str | os.PathLike,
    raw: Mapping[str, Any],
) -> dict[str, float]:
    """Returns, per head, the largest absolute difference between the SavedModel and Keras.

    The same raw items go through the tf.data decoders into the Keras model, and into the
    SavedModel in a process that imports neither mmkeras nor Keras (see `ask`).

    Args:
        model: the exported Keras model.
        modalities: its adapted modalities.
        path: folder of the SavedModel.
        raw: rows as `data.raw(split, rows)` returns them.
    """
    decoders = {name: decoder(modality) for name, modality in modalities.items()}

    def decode(items: dict) -> dict:
        x = {}
        for name, decode_one in decoders.items():
            x[name], x[f"{name}_mask"] = decode_one(items[name])
        return x

    items = {
        name: tf.constant(values.tolist() if values.dtype == object else values)
        for name, values in ((name, np.asarray(values)) for name, values in raw.items())
    }
    count = len(next(iter(raw.values())))
    dataset = tf.data.Dataset.from_tensor_slices(items).batch(count).map(decode)
    expected = served(model).predict(dataset, verbose=0)
    answered = ask(path, raw)
    return {name: largest(answered[name], value) for name, value in expected.items()}


def largest(a: Any, b: Any) -> float:
    """Returns the largest absolute difference, infinity where one of two numbers is NaN."""
    apart = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return float(np.max(np.where(np.isnan(apart), np.inf, apart)))
