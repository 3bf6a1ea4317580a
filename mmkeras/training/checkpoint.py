"""Checkpoints on disk: written whole or not at all, checksummed, rotated; a broken one is skipped.

A checkpoint is a folder `step-00000123` with `arrays.npz`, `state.json` and `SHA256SUMS`. It is
written under another name, flushed to the disk and renamed, so that a process killed at any moment
leaves either the whole checkpoint or a folder that nobody reads.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_FILES = ("arrays.npz", "state.json")


def save(folder: str | os.PathLike, step: int, arrays: dict, state: dict, keep: int = 2) -> Path:
    """Writes a checkpoint, then removes all but the newest `keep`.

    Args:
        folder: of the run's checkpoints; made if missing.
        step: global step, which names the checkpoint; an earlier one of that name is replaced.
        arrays: name -> NumPy array.
        state: what JSON can hold.
        keep: number of checkpoints to keep, at least 1.

    Returns:
        The folder of the checkpoint.
    """
    folder = Path(folder)
    final, made = _path(folder, step), folder / f".writing-{os.getpid()}"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    with open(made / "arrays.npz", "wb") as file:
        np.savez(file, **{str(i): array for i, array in enumerate(arrays.values())})
        _flush(file)
    with open(made / "state.json", "w") as file:
        json.dump({"names": list(arrays), "state": state}, file)
        _flush(file)
    with open(made / "SHA256SUMS", "w") as file:
        file.writelines(f"{_digest(made / name)}  {name}\n" for name in _FILES)
        _flush(file)
    if final.exists():
        shutil.rmtree(final)
    os.rename(made, final)
    _flush_folder(folder)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(folder: str | os.PathLike, step: int | None = None) -> tuple[dict, dict] | None:
    """Returns `(arrays, state)` of the newest sound checkpoint, or None where there is none.

    Args:
        folder: of the run's checkpoints.
        step: of the one to load, if not the newest.
    """
    path = _path(folder, step) if step is not None else next(_sound(folder), None)
    if path is None:
        return None
    held = json.loads((path / "state.json").read_text())
    with np.load(path / "arrays.npz") as file:
        return {name: file[str(i)] for i, name in enumerate(held["names"])}, held["state"]


def steps(folder: str | os.PathLike) -> list[int]:
    """Returns the steps of all sound checkpoints, newest first."""
    return [int(path.name.removeprefix("step-")) for path in _sound(folder)]


def _sound(folder: str | os.PathLike) -> Iterator[Path]:
    """Yields sound checkpoints, newest first, and warns of those that are torn or corrupt."""
    for path in reversed(_all(Path(folder))):
        fault = _fault(path)
        if fault is None:
            yield path
        else:
            warnings.warn(
                f"The checkpoint {path} is not sound ({fault}) and is passed over.", stacklevel=3
            )


def _path(folder: str | os.PathLike, step: int) -> Path:
    return Path(folder) / f"step-{step:08d}"


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _fault(path: Path) -> str | None:
    """Says what is wrong with a checkpoint, if anything."""
    try:
        sums = dict(
            reversed(line.split()) for line in (path / "SHA256SUMS").read_text().splitlines()
        )
    except (OSError, ValueError) as error:
        return f"its checksums cannot be read: {error}"
    for name in _FILES:
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != sums.get(name):
            return f"{name} does not match its checksum"
    return None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
