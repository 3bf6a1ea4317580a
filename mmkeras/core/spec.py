"""Specs as JSON: `{"modalities": {name: config}}` in declared order, written atomically."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkeras.core import files
from mmkeras.core.identifiers import nearest
from mmkeras.core.modalities import KINDS
from mmkeras.core.modality import Modality


def from_config(config: Mapping[str, Any]) -> Modality:
    """Returns the modality that `Modality.get_config` described."""
    config = dict(config)
    kind = config.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"Unknown modality kind {kind!r}. {nearest(kind, KINDS)}")
    known = [field.name for field in dataclasses.fields(KINDS[kind])]
    for name in config:
        if name not in known:
            raise ValueError(f"The kind {kind!r} has no argument {name!r}. {nearest(name, known)}")
    inner = {n: from_config(c) for n, c in config.items() if isinstance(c, Mapping) and "kind" in c}
    return KINDS[kind](**{**config, **inner})


def to_json(modalities: Mapping[str, Modality]) -> str:
    """Returns the specs as JSON text, names in declared order."""
    configs = {name: modality.get_config() for name, modality in modalities.items()}
    return json.dumps({"modalities": configs}, indent=1, ensure_ascii=False)


def from_json(text: str) -> dict[str, Modality]:
    """Returns the specs that `to_json` wrote, equal to the originals."""
    return {name: from_config(c) for name, c in json.loads(text)["modalities"].items()}


def save(modalities: Mapping[str, Modality], path: str | os.PathLike) -> None:
    """Writes the specs to `path`; the file is there whole or not at all."""
    files.write_text(path, to_json(modalities) + "\n")


def load(path: str | os.PathLike) -> dict[str, Modality]:
    """Reads what `save` wrote."""
    return from_json(Path(path).read_text(encoding="utf-8"))
