"""Files that are there whole or not at all."""

import json
import os
import secrets
from pathlib import Path
from typing import Any


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes to a temporary name of its own, then renames: who comes last wins."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: str | os.PathLike) -> None:
    """Waits until a file, or all under a folder, is on the disk: a rename may be there before."""
    path = Path(path)
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes UTF-8, as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes JSON text."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
