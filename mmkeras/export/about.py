"""What an export says of itself: `assets.extra/mmkeras.json` and the vocabularies."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import mmkeras
from mmkeras.core import Modality, files, to_json
from mmkeras.data.fingerprint import fingerprint
from mmkeras.export.answers import served
from mmkeras.heads import head_of

FILE = "mmkeras.json"


def describe(
    folder: Path,
    model: keras.Model,
    modalities: Mapping[str, Modality],
    signatures: Sequence[str],
    *,
    data: Any = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Writes `assets.extra` of a SavedModel.

    `mmkeras.json`: `modalities` (the specs, in the order of the columns of `bad_input`), `heads`
    (output that is served -> class of its head), `classes` (output -> names by index),
    `signatures`, `versions`, `git_commit` (of the working folder, "+changes" where files differ
    from it; null outside of a repository), `training_data` (SHA-256 of the training rows, see
    `mmkeras.data.fingerprint`; null where the data was not given) and `metrics` as given.
    """
    heads = {name: head_of(model, name) for name in served(model).output_names}
    about = {
        **json.loads(to_json(modalities)),
        "heads": {name: type(head).__name__ for name, head in heads.items()},
        "classes": {n: list(head.classes) for n, head in heads.items() if hasattr(head, "classes")},
        "signatures": list(signatures),
        "versions": {
            "mmkeras": mmkeras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
        "git_commit": _commit(),
        "training_data": None if data is None else {"sha256": fingerprint(data)},
        "metrics": {name: float(value) for name, value in (metrics or {}).items()},
    }
    extra = folder / "assets.extra"
    extra.mkdir()
    for name, modality in modalities.items():
        vocabulary_file(extra, name, modality)
    files.write_json(extra / FILE, about)


def about(path: str | os.PathLike) -> dict:
    """Returns what `describe` wrote into the export at `path`."""
    return json.loads((Path(path) / "assets.extra" / FILE).read_text(encoding="utf-8"))


def vocabulary_file(folder: Path, name: str, modality: Modality) -> dict[str, Path]:
    """Writes the tokens of a text by id, one a line; returns keywords of its decoder."""
    if modality.item.kind != "text":
        return {}
    file = folder / f"{name}_vocabulary.txt"
    file.write_text("\n".join(modality.item.vocabulary) + "\n", encoding="utf-8")
    return {"vocabulary_file": file}


def _commit() -> str | None:
    try:
        head, changes = (
            subprocess.run(["git", *command], capture_output=True, text=True)
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
