"""The three files that a TensorFlow Serving takes beside its models."""

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmkeras.core.files import write_text

MODELS, BATCHING, MONITORING = "models.config", "batching_parameters.txt", "monitoring.config"
_BATCHING = """max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 1000 }}
max_enqueued_batches {{ value: 100 }}
{allowed}
"""
_MONITORING = """prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def batch_sizes(folder: str | os.PathLike, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Returns the batch sizes that a server allows: those of its file, else `wanted`.

    They are the server's, for all its models: requests are put together and filled up to the next
    of them, so that each model sees few shapes, all of them warmed up.

    Args:
        folder: where the file is, or is not yet.
        wanted: sizes; None takes those of the file, or 1, 8 and 64 where there is none.

    Raises:
        ValueError: the file states other sizes, or none; or `wanted` are no sizes.
    """
    file = Path(folder) / BATCHING
    if wanted is not None:
        sizes = tuple(sorted({int(size) for size in wanted}))
        if not sizes or sizes[0] < 1:
            raise ValueError(f"Batch sizes must be whole numbers >= 1. Received: {wanted!r}.")
    if not file.exists():
        return (1, 8, 64) if wanted is None else sizes
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    held = tuple(int(size) for size in re.findall(r"\ballowed_batch_sizes\s*:\s*(\d+)", text))
    if not held or (wanted is not None and sizes != tuple(sorted(held))):
        raise ValueError(
            f"The batch sizes of a server are those of its file {str(file)!r}. Received: "
            f"batch_sizes={wanted}, the file allows {list(held)}. Leave `batch_sizes` out, or "
            "change `allowed_batch_sizes` and `max_batch_size` in the file."
        )
    return held


def server_files(
    folder: str | os.PathLike, model: str, *, sizes: Sequence[int], root: str = "/models"
) -> None:
    """Writes what is missing: files that are there stay as they are.

    A model that `models.config` does not list yet is added to it; what it says of other models, and
    of versions and labels, stays. Processes that do this at once take turns.

    Args:
        folder: which holds a folder per model.
        model: name and folder of the model.
        sizes: batch sizes allowed, for `batching_parameters.txt`.
        root: `folder` as the server sees it.

    Raises:
        ValueError: another process has meanwhile stated other sizes.
    """
    folder = Path(folder)
    with _locked(folder):
        batch_sizes(folder, sizes)
        if not (folder / BATCHING).exists():
            allowed = "\n".join(f"allowed_batch_sizes: {size}" for size in sizes)
            write_text(folder / BATCHING, _BATCHING.format(largest=max(sizes), allowed=allowed))
        if not (folder / MONITORING).exists():
            write_text(folder / MONITORING, _MONITORING)
        _add_model(folder / MODELS, model, f"{root.rstrip('/')}/{model}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which ends with the process that holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _add_model(file: Path, model: str, path: str) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    if file.exists():
        try:
            text_format.Parse(file.read_text(encoding="utf-8"), config)
        except text_format.ParseError as error:
            raise ValueError(
                f"{file} must hold a ModelServerConfig as text. Received: {error} Mend or remove "
                "it; nothing was published."
            ) from error
    models = config.model_config_list.config
    if all(held.name != model for held in models):
        models.add(name=model, base_path=path, model_platform="tensorflow")
        write_text(file, text_format.MessageToString(config))
