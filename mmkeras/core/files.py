"""Files that are there whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes to a temporary name, then renames."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes JSON text."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
