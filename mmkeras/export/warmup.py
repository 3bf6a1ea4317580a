"""Warm-up requests: what TensorFlow Serving runs through a version before it lets clients in."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.export.answer import Loaded

_FILE = "assets.extra/tf_serving_warmup_requests"
_MOST = 1000  # records that TensorFlow Serving takes


def warm_up(
    folder: str | os.PathLike,
    model: str,
    raw: Mapping[str, Any],
    *,
    batch_sizes: Sequence[int],
    signatures: Sequence[str] = ("serving_default",),
) -> Path:
    """Writes a request per signature and batch size into a SavedModel, and runs them.

    The file is `assets.extra/tf_serving_warmup_requests`, a TFRecord of PredictionLog. Rows are
    taken in turn; inputs that `raw` does not hold are there as their default, once per row, because
    a server that batches wants as many rows of each. After writing, every record is read back and
    answered through the session loader, since a record that fails keeps the server from loading
    the version.

    Args:
        folder: a SavedModel, which no server looks at yet.
        model: name that the server gives it.
        raw: rows as `data.raw(split, rows)` returns them.
        batch_sizes: rows of the requests.
        signatures: which to warm up; they must take the inputs that `raw` holds.

    Returns:
        The file.

    Raises:
        ValueError: inputs do not fit a signature, or an output has not a row for each of the input.
        ImportError: without the extra `serving`.
    """
    prediction_log, predict = _protos()
    count = len(signatures) * len(batch_sizes)
    if not 0 < count <= _MOST:
        raise ValueError(
            f"There may be 1 to {_MOST} warm-up requests. Received: {len(signatures)} signatures "
            f"times {len(batch_sizes)} batch sizes. Leave some out."
        )
    file = Path(folder) / _FILE
    file.parent.mkdir(exist_ok=True)
    with Loaded(folder) as loaded:
        temporary = file.with_name(file.name + ".tmp")
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for name in signatures:
                for size in batch_sizes:
                    request = predict.PredictRequest()
                    request.model_spec.name = model
                    request.model_spec.signature_name = name
                    for key, tensor in _tensors(loaded.signatures, name, raw, size).items():
                        request.inputs[key].CopyFrom(tensor)
                    log = prediction_log.PredictLog(request=request)
                    writer.write(prediction_log.PredictionLog(predict_log=log).SerializeToString())
        for request in requests(temporary):
            _run(loaded, request)
        os.replace(temporary, file)
    return file


def requests(file: str | os.PathLike) -> Iterator[Any]:
    """Yields the PredictRequests of a file of warm-up requests."""
    prediction_log, _ = _protos()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        yield prediction_log.PredictionLog.FromString(record).predict_log.request


def _protos() -> tuple[Any, Any]:
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            f"Publishing needs the extra `serving`: pip install 'mmkeras[serving]' ({error})."
        ) from error
    return prediction_log_pb2, predict_pb2


def _tensors(
    held: Mapping[str, Any], name: str, raw: Mapping[str, Any], size: int
) -> dict[str, Any]:
    """Returns `size` rows of every input of a signature, as TensorProtos."""
    if name not in held:
        known = sorted(n for n in held if not n.startswith("__"))
        raise ValueError(f"The model has no signature {name!r}. It has: {', '.join(known)}.")
    inputs, defaults = held[name].inputs, held[name].defaults
    needed = set(inputs) - set(defaults)
    if not needed <= set(raw) <= set(inputs) or not raw:
        raise ValueError(
            f"The signature {name!r} takes {sorted(inputs)}, of which {sorted(needed)} must be "
            f"there. Received: {sorted(raw)}. Pass what `data.raw(split, rows)` returns."
        )
    tensors = {}
    for key, info in inputs.items():
        kind = object if info.dtype == tf.string.as_datatype_enum else None
        rows = np.asarray(raw[key], kind) if key in raw else tf.make_ndarray(defaults[key])
        rows = rows[np.arange(size) % len(rows)]
        tensors[key] = tf.make_tensor_proto(rows.tolist(), info.dtype, rows.shape)
    return tensors


def _run(loaded: Loaded, request: Any) -> None:
    signature = loaded.signatures[request.model_spec.signature_name]
    feed = {
        info.name: tf.make_ndarray(request.inputs[name]) for name, info in signature.inputs.items()
    }
    size = len(next(iter(feed.values())))
    fetched = {name: info.name for name, info in signature.outputs.items()}
    outputs = loaded.session.run(fetched, feed)
    for name, value in outputs.items():
        if value.shape[:1] != (size,):
            raise ValueError(
                f"An output must have a row for each of the request. Received: {name!r} of shape "
                f"{value.shape} for {size} rows of {request.model_spec.signature_name!r}."
            )
