"""What runs are of: names, descriptions, and the folder that belongs to them alone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkeras.core import checks, spec
from mmkeras.core.identifiers import nearest
from mmkeras.fusion import class_of
from mmkeras.training.task import Task, check_new


def named(fusions: Any) -> dict[str, Any]:
    """Returns row -> fusion, or raises: each row once, and nothing finished."""
    if not isinstance(fusions, Mapping):
        found = [(_name(fusion), fusion) for fusion in fusions]
        fusions = dict(found)
        if len(fusions) < len(found):
            raise ValueError(
                "Rows must have different names. Received: "
                f"{', '.join(name for name, _ in found)}. Name them: "
                "fusions={'wide': {'name': 'mlp', ...}, 'narrow': ...}."
            )
    for name, fusion in fusions.items():
        checks.identifier("A row's name", name)
        check_new(f"fusion of the row {name!r}", fusion)
    return dict(fusions)


def _name(fusion: Any) -> str:
    """The fusion's own name; of a hybrid those of its fusions."""
    if isinstance(fusion, list | tuple):
        return "_and_".join(_name(one) for one in fusion)
    if isinstance(fusion, Mapping):
        return _name(fusion["name"]) if "name" in fusion else class_of(fusion)[0].__name__
    return getattr(fusion, "__name__", fusion)


def check_metric(metric: str, heads: Mapping[str, keras.layers.Layer]) -> None:
    """Raises unless `evaluate` gives a quantity of this name."""
    known = ["loss"]
    for name, head in heads.items():
        made = [m.name for m in head.default_metrics()] if hasattr(head, "default_metrics") else []
        known += made if len(heads) == 1 else [f"{name}_{m}" for m in ["loss", *made]]
    if metric not in known:
        raise ValueError(f"Unknown `metric` {metric!r}. {nearest(metric, known)}")


def described(part: Any) -> Any:
    """Returns JSON that says which encoder, fusion or head is meant."""
    if isinstance(part, keras.layers.Layer):
        config = {key: value for key, value in part.get_config().items() if key != "name"}
        return {"class": type(part).__name__, **json.loads(json.dumps(config, default=repr))}
    if callable(part):
        return f"{part.__module__}.{part.__qualname__}"
    return json.loads(json.dumps(part, default=repr))


def of(task: Task, **more: Any) -> dict:
    """Returns as JSON what decides the numbers of every run, `more` included."""
    data = task.data
    rows = {split: len(data.splits[split]) for split in ("train", *task.splits)}
    return {
        "modalities": json.loads(spec.to_json(data.modalities))["modalities"],
        "rows": rows,
        "content": {split: _content(data, split) for split in rows},
        "encoders": {name: described(task.encoders.get(name)) for name in data.modalities},
        "heads": {name: described(head) for name, head in task.heads.items()},
        "recipe": described(task.recipe),
        "precision": keras.config.dtype_policy().name,
        **{name: described(value) for name, value in more.items()},
        "splits": list(task.splits),
    }


def _content(data: Any, split: str) -> str:
    """Fingerprint of a split: all truths, and the first rows as the model reads them."""
    held = hashlib.sha256()
    x, _ = next(iter(data.batches(split, 8)))
    for part in (x, data.splits[split].truth):
        for name in sorted(part):
            held.update(np.ascontiguousarray(part[name]).tobytes())
    return held.hexdigest()[:16]


def check(file: Path, now: dict) -> None:
    """Raises where a file of an earlier call says something else."""
    if file.exists():
        same(file.parent, json.loads(file.read_text()), now)


def same(folder: Path, held: dict, now: dict) -> None:
    """Raises unless both are equal; the text names the first entry that differs."""
    for key in {**held, **now}:
        if held.get(key) != now.get(key):
            one, other = (json.dumps(part.get(key))[:300] for part in (held, now))
            raise ValueError(
                f"The folder {str(folder)!r} must hold what was run with the same settings. "
                f"Received: {key} {other}; in the folder: {one}. Restore the call as it was, or "
                "choose another `out`."
            )
