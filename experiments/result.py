"""What a `result.json` says about its run, and how it is written."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from mmkeras.core import files

HERE = Path(__file__).parent


def about(*packages: str) -> dict:
    """Returns commit, machine and the versions of Python and of those packages that are there."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": versions,
    }


def commit() -> str:
    """Returns the checked-out commit, marked when the tree differs, or "unknown"."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=HERE, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return (head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")) or "unknown"


def write(path: Path, content: dict) -> None:
    """Writes JSON; the file is there whole or not at all."""
    files.write_json(path, content)
