"""Writes data as TFRecord shards with a schema beside them: in parallel, resumable, checksummed.

A row is a `tf.train.Example` of the raw items (what a serving request holds: encoded bytes, UTF-8,
numbers) under the modality's name and the encoded truth under `target/<name>`.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, checks, to_json
from mmkeras.data.cache import key_of
from mmkeras.data.dataset import Data

FORMAT = 1
SCHEMA = "schema.json"
_PLAN = "plan.json"


def write_shards(
    data: Data,
    folder: str | os.PathLike,
    *,
    rows_per_shard: int = 512,
    workers: int | None = None,
) -> Path:
    """Writes every split of `data` to `<split>-<number>-of-<count>.tfrecord` files.

    A file appears whole or not at all (written under another name, then renamed), and
    `schema.json` (modalities, targets, and rows, bytes and SHA-256 of every file) after all files:
    a folder with it is complete. Interrupted, the same call goes on with the files that miss; a
    folder that is complete with the same data is left as it is.

    Args:
        data: what `mk.data.table` returned; augmentation is kept as a declaration. Waves given as
            arrays are stored as 16-bit WAV (see `data.raw`).
        folder: is created.
        rows_per_shard: rows of a file; the last of a split has what is left. Rows are shuffled
            within some files at a time (see `mk.data.shards`).
        workers: threads; the usable cores when None.

    Returns:
        The folder, for `mk.data.shards`.

    Raises:
        ValueError: the folder holds shards of other data.
    """
    folder, size = Path(folder), checks.whole("rows_per_shard", rows_per_shard)
    for name, modality in data.modalities.items():
        _check_shape(name, modality)
    plan = {"format": FORMAT, "key": _key(data), "rows_per_shard": size}
    folder.mkdir(parents=True, exist_ok=True)
    if not _begin(folder, plan):
        return folder
    tasks = [
        (split, number, part, count)
        for split, held in data.splits.items()
        for number, (part, count) in enumerate(_cut(len(held), size))
    ]
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        done = list(pool.map(lambda task: _shard(data, folder, *task), tasks))
    splits: dict[str, list] = {split: [] for split in data.splits}
    for (split, *_), about in zip(tasks, done, strict=True):
        splits[split].append(about)
    schema = {
        **plan,
        **json.loads(to_json(data.modalities)),
        "targets": {name: target.get_config() for name, target in data.targets.items()},
        "splits": splits,
    }
    _write(folder / SCHEMA, json.dumps(schema, indent=1, ensure_ascii=False).encode())
    for old in (folder / _PLAN, *(folder / f"{x['file']}.json" for x in done)):
        old.unlink(missing_ok=True)
    return folder


def _begin(folder: Path, plan: dict) -> bool:
    """Returns whether there is something to write; raises when the folder is of other data."""
    for name in (SCHEMA, _PLAN):
        if (folder / name).exists():
            held = json.loads((folder / name).read_text(encoding="utf-8"))
            if {key: held.get(key) for key in plan} != plan:
                raise ValueError(
                    "A folder holds the shards of one set of data. Received: "
                    f"{str(folder)!r}, whose {name} is of other rows, specs or rows_per_shard. "
                    "Choose another folder, or remove this one."
                )
            return name == _PLAN
    _write(folder / _PLAN, json.dumps(plan).encode())
    return True


def _check_shape(name: str, modality: Modality) -> None:
    if None in modality.raw_shape[1:]:
        raise ValueError(
            f"Raw items of variable length can be stored when the first axis alone varies. "
            f"Received: {name!r} of shape {modality.raw_shape}."
        )


def _key(data: Data) -> str:
    """Hash of specs, targets, items and rows."""
    digest = hashlib.sha256(to_json(data.modalities).encode())
    for name, target in data.targets.items():
        digest.update(json.dumps([name, target.get_config()]).encode())
    for split, held in data.splits.items():
        digest.update(f"{split}{len(held)}".encode())
        for name, column in held.columns.items():
            digest.update(key_of(data.modalities[name], column).encode())
            digest.update(np.ascontiguousarray(column.index))
        for values in held.truth.values():
            digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()


def _cut(rows: int, size: int) -> list[tuple[range, int]]:
    """Rows of each file, and the number of files."""
    count = -(-rows // size)
    return [(range(i * size, min(rows, (i + 1) * size)), count) for i in range(count)]


def _shard(data: Data, folder: Path, split: str, number: int, rows: range, count: int) -> dict:
    """Writes one file unless it is there and sound; returns its entry of the schema."""
    name = f"{split}-{number:05d}-of-{count:05d}.tfrecord"
    note = folder / f"{name}.json"
    if note.exists():
        about = json.loads(note.read_text())
        if (folder / name).exists() and checksum(folder / name) == about["sha256"]:
            return about
    scratch = folder / f".{name}.{os.getpid()}.tmp"
    try:
        with tf.io.TFRecordWriter(str(scratch)) as file:
            for example in _examples(data, split, rows):
                file.write(example)
        about = {
            "file": name,
            "rows": len(rows),
            "bytes": scratch.stat().st_size,
            "sha256": checksum(scratch),
        }
        os.replace(scratch, folder / name)
    finally:
        scratch.unlink(missing_ok=True)
    _write(note, json.dumps(about).encode())
    return about


def _examples(data: Data, split: str, rows: range) -> list[bytes]:
    raw = data.raw(split, rows)
    truth = data.splits[split].truth
    examples = []
    for i, row in enumerate(rows):
        features = {name: _feature(items[i]) for name, items in raw.items()}
        features |= {f"target/{name}": _feature(values[row]) for name, values in truth.items()}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        examples.append(example.SerializeToString())
    return examples


def _feature(value: Any) -> tf.train.Feature:
    flat = [value] if isinstance(value, bytes) else np.asarray(value).ravel().tolist()
    if flat and isinstance(flat[0], bytes | str):
        flat = [x.encode("utf-8") if isinstance(x, str) else x for x in flat]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=flat))
    if flat and isinstance(flat[0], int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(x) for x in flat]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=flat))


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    scratch.write_bytes(content)
    os.replace(scratch, path)
