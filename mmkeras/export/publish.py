"""Puts an exported SavedModel where TensorFlow Serving looks, whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkeras.core import files
from mmkeras.export.server_files import batch_sizes as allowed
from mmkeras.export.server_files import server_files
from mmkeras.export.warmup import warm_up


def publish(
    exported: str | os.PathLike,
    base: str | os.PathLike,
    raw: Mapping[str, Any],
    *,
    batch_sizes: Sequence[int] | None = None,
    signatures: Sequence[str] = ("serving_default",),
    root: str = "/models",
) -> Path:
    """Copies an export to the next version folder of a model, warm-up requests included.

        serving/                        mounted as `root`
            models.config               --model_config_file (a further model is seen at the next
                                        start, or with --model_config_file_poll_wait_seconds)
            batching_parameters.txt     --batching_parameters_file, with --enable_batching
            monitoring.config           --monitoring_config_file
            vqa/                        `base`; its name is the model's
                1/  2/                  versions; the server takes the highest

    The copy is made under a name that is no number, which the server passes over, gets its warm-up
    requests, answers all of them, and is renamed to the next version when the server's files are
    there: a version that a server sees is complete, and one that fails is never seen. Two who
    publish at once get two numbers, and both models are listed. Files of the server that exist are
    not touched, but for a model missing in `models.config`.

    With batching, requests are put together along their rows, so all of them must agree in every
    other size: where an input is a sequence of any length, let clients fill up to one length with
    NaN, or serve without `--enable_batching`. (The server's own `pad_variable_length_inputs` would
    repeat a value instead, which the model takes for a step.)

    Args:
        exported: folder written by `mk.export.saved_model`; it stays as it is.
        base: folder of the model, made if need be.
        raw: rows to warm up with, as `data.raw(split, rows)` returns them.
        batch_sizes: sizes that the server allows; None takes those of `batching_parameters.txt`,
            or 1, 8 and 64 where there is none yet. A version is warmed up with each.
        signatures: which to warm up.
        root: the folder above `base` as the server sees it; "/models" in the stock image.

    Returns:
        The version folder.

    Raises:
        ValueError: `exported` is no SavedModel, the name is none for a server, `models.config` is
            broken, or the rows and batch sizes do not fit (see `warm_up`,
            `server_files.batch_sizes`).
        ImportError: without the extra `serving`.
    """
    exported, base = Path(exported), Path(base)
    if not (exported / "saved_model.pb").is_file():
        raise ValueError(
            f"`exported` must be a SavedModel. Received: {str(exported)!r}, which has no "
            "saved_model.pb. Write it by mk.export.saved_model(model, data.modalities, folder)."
        )
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", base.name):
        raise ValueError(
            "The name of the model is the last part of `base`: letters, digits, '_', '-' and '.', "
            f"a letter first. Received: {base.name!r}. Write e.g. 'serving/vqa'."
        )
    sizes = allowed(base.parent, batch_sizes)
    base.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".publish.", dir=base))
    try:
        copy = scratch / "model"
        shutil.copytree(exported, copy)
        warm_up(copy, base.name, raw, batch_sizes=sizes, signatures=signatures)
        server_files(base.parent, base.name, sizes=sizes, root=root)
        files.flush(copy)
        return _rename(copy, base)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def versions(base: str | os.PathLike) -> list[int]:
    """Returns the versions of a model, ascending."""
    return sorted(int(p.name) for p in Path(base).iterdir() if p.is_dir() and p.name.isdecimal())


def _rename(folder: Path, base: Path) -> Path:
    """Renames to the next number; who comes second takes the one after."""
    while True:
        version = base / str(max(versions(base), default=0) + 1)
        try:
            os.rename(folder, version)
            return version
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
