"""What leaves TensorFlow: a model on decoded tensors, as ONNX and TFLite hold it.

Neither decodes pictures, sounds or text: the inputs are those of the Keras model, the value and
the mask of each modality, and the client decodes (`mk.data.decoder`). The outputs are those of the
heads, with `<head>_scores` (softmax or sigmoid). The modalities and the classes stand in a JSON
file beside it, `vqa.onnx.json` of `vqa.onnx`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkeras.core import Modality, files, to_json
from mmkeras.export import to_onnx, to_tflite
from mmkeras.export.answers import served
from mmkeras.export.parity import largest
from mmkeras.heads import Classifier, MultiLabel, head_of

_RUN = {".onnx": to_onnx.run, ".tflite": to_tflite.run}


def scored(model: keras.Model) -> keras.Model:
    """Returns the model with the scores of its heads among the outputs, and no losses."""
    model = served(model)
    outputs = dict(model.output)
    for name, value in model.output.items():
        head = head_of(model, name)
        if isinstance(head, Classifier):
            outputs[f"{name}_scores"] = ops.softmax(value, axis=-1)
        elif isinstance(head, MultiLabel):
            outputs[f"{name}_scores"] = ops.sigmoid(value)
    return keras.Model(model.input, outputs)


def onnx(model: keras.Model, modalities: Mapping[str, Modality], path: str | os.PathLike) -> Path:
    """Writes a model on decoded tensors as ONNX, for any number of samples.

    Args:
        model: what `assemble` returned, in float32.
        modalities: the adapted specs (`data.modalities`).
        path: a new file, `NAME.onnx`; `NAME.onnx.json` is written beside it.

    Raises:
        ImportError: mmkeras[onnx] is not installed.
        ValueError: the file exists or has another ending, or something does not convert.
    """
    with _publishing(path, ".onnx", model, modalities) as temporary:
        to_onnx.convert(scored(model), temporary)
    return Path(path)


def tflite(model: keras.Model, modalities: Mapping[str, Modality], path: str | os.PathLike) -> Path:
    """Writes a model on decoded tensors for LiteRT (TFLite), for any number of samples.

    Only built-in operators are used, which every runtime has. A model with recurrent layers takes
    one sample at a time: they do not convert for any number. `run_tensors` does it by itself.

    Args:
        model: what `assemble` returned, in float32.
        modalities: the adapted specs (`data.modalities`).
        path: a new file, `NAME.tflite`; `NAME.tflite.json` is written beside it.

    Raises:
        ValueError: the file exists or has another ending, or something does not convert.
    """
    with _publishing(path, ".tflite", model, modalities) as temporary:
        to_tflite.convert(scored(model), temporary)
    return Path(path)


def run_tensors(path: str | os.PathLike, x: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the outputs of a `.onnx` or `.tflite` file for B samples of decoded tensors.

    Raises:
        ImportError: mmkeras[onnx] or mmkeras[lite] is not installed.
        ValueError: another file, or inputs that it does not have.
    """
    _check_ending(path, tuple(_RUN))
    return _RUN[Path(path).suffix](os.fspath(path), {k: np.asarray(v) for k, v in x.items()})


def check_tensors(
    model: keras.Model, path: str | os.PathLike, x: Mapping[str, Any]
) -> dict[str, float]:
    """Returns, per head, the largest absolute difference between a file and Keras.

    Args:
        model: the exported model.
        path: the `.onnx` or `.tflite` file.
        x: a batch of decoded tensors, such as `data.batches(...)` yields.
    """
    expected = served(model).predict_on_batch(x)
    answered = run_tensors(path, x)
    return {name: largest(answered[name], value) for name, value in expected.items()}


@contextmanager
def _publishing(
    path: Any, ending: str, model: keras.Model, modalities: Mapping[str, Modality]
) -> Iterator[str]:
    """Yields a temporary name; renames it when all went well."""
    _check_ending(path, (ending,))
    path = Path(path)
    beside = path.with_name(f"{path.name}.json")
    for file in (path, beside):
        if file.exists():
            raise ValueError(f"An export never overwrites a file. Received: {str(file)!r} exists.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield str(temporary)
        files.write_json(beside, _about(model, modalities))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_ending(path: Any, endings: tuple[str, ...]) -> None:
    if Path(path).suffix not in endings:
        raise ValueError(f"The file must end with {' or '.join(endings)}. Received: {path!r}.")


def _about(model: keras.Model, modalities: Mapping[str, Modality]) -> dict:
    heads = {name: head_of(model, name) for name in served(model).output_names}
    classes = {n: list(head.classes) for n, head in heads.items() if hasattr(head, "classes")}
    return {**json.loads(to_json(modalities)), "classes": classes}
