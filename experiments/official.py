"""Fetches the official files of the experiments' data sets and lays them out as they read them.

Source archives are packed anew by their host, so that a checksum of the archive would not last:
the training part inside is checked instead (SHA-256 over names and contents), and MNIST by the MD5
of its files. Nothing of a set is put in place before its check has passed.
"""

import csv
import gzip
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

EASY_VQA = "https://github.com/vzhou842/easy-VQA/archive/3b553bb7.zip"
EASY_VQA_TRAIN = "8f58e4be3cabd11e74c657aaf50e5f6dc5bbd05ea69af6f01743a8077ccaa03e"
FSDD = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf.zip"
FSDD_DIGEST = "001fa814adaa496637d9e0fc9c770a76b19d975f72753a4839b81722d7a6ec46"
SPEAKERS = ("george", "jackson", "nicolas", "theo")
MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}


def digest(files: Iterable[tuple[str, bytes]]) -> str:
    """Returns the SHA-256 over names and contents, in the order of the names."""
    total = hashlib.sha256()
    for name, content in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return total.hexdigest()


def easy_vqa(folder: Path) -> None:
    """Fills `folder` with images.zip and the question files, unless it holds them."""
    names = ("images.zip", "train_questions.json", "test_questions.json")
    if all((folder / name).exists() for name in names):
        return
    archive = _archive("easy-vqa", EASY_VQA)
    images, questions = {}, {}
    for path, content in archive.items():
        parts = path.split("/")
        if parts[-2:-1] == ["images"] and path.endswith(".png"):
            images[f"{parts[-3]}/{parts[-1]}"] = content
        elif parts[-1] == "questions.json":
            questions[parts[-2]] = content
    train = [(n, c) for n, c in images.items() if n.startswith("train/")]
    triples = json.dumps(json.loads(questions["train"])).encode()
    _check("easy-VQA", digest([*train, ("questions", triples)]), EASY_VQA_TRAIN)
    folder.mkdir(parents=True, exist_ok=True)
    _zip(folder / "images.zip", images)
    for split, content in questions.items():
        _put(folder / f"{split}_questions.json", content)


def av_digits(folder: Path) -> None:
    """Fills `folder` with fsdd.zip, the MNIST files and seeded pairs, unless it holds them.

    Pairs follow the rule of the set (same digit; recordings 10-49 for training, 5-9 for
    validation, 0-4 for test) with a seed of our own: other pairs than in a packed copy.
    """
    if all((folder / f"pairs_{split}.csv").exists() for split in ("train", "val", "test")):
        return
    recordings = {
        f"recordings/{Path(path).name}": content
        for path, content in _archive("fsdd", FSDD).items()
        if path.endswith(".wav") and Path(path).name.split("_")[1] in SPEAKERS
    }
    _check("FSDD", digest(recordings.items()), FSDD_DIGEST)
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    _zip(folder / "fsdd.zip", recordings)
    for name, md5 in MNIST_MD5.items():
        path = keras.utils.get_file(name, MNIST + name, file_hash=md5)
        raw = gzip.decompress(Path(path).read_bytes())
        part = name.replace("t10k", "t10k-first5000")
        if part != name:
            offset, size = (16, 784) if "images" in name else (8, 1)
            raw = raw[: offset + 5000 * size]
        _put(folder / "mnist" / part, gzip.compress(raw))
    for split, (part, first, last, takes) in {
        "train": ("train", 0, 55_000, range(10, 50)),
        "val": ("train", 55_000, 60_000, range(5, 10)),
        "test": ("t10k-first5000", 0, 5000, range(5)),
    }.items():
        raw = gzip.decompress((folder / "mnist" / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        labels = np.frombuffer(raw, np.uint8, offset=8)[first:last]
        _pair(folder / f"pairs_{split}.csv", labels, first, takes)


def _pair(path: Path, labels: np.ndarray, first: int, takes: range) -> None:
    rng = np.random.default_rng([0, first, takes[0]])
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["mnist_index", "wav", "label"])
        for index, label in enumerate(labels, start=first):
            wav = f"{label}_{rng.choice(SPEAKERS)}_{rng.choice(takes)}.wav"
            lines.writerow([index, wav, label])
    os.replace(temporary, path)


def _archive(name: str, origin: str) -> dict[str, bytes]:
    path = Path(keras.utils.get_file(f"mmkeras-{name}.zip", origin))
    try:
        with zipfile.ZipFile(path) as file:
            return {i.filename: file.read(i) for i in file.infolist() if not i.is_dir()}
    except zipfile.BadZipFile as error:
        path.unlink()  # or the next try would find it in the cache
        raise ValueError(f"The download of {origin} was cut short. Run it again.") from error


def _check(what: str, got: str, expected: str) -> None:
    if got != expected:
        raise ValueError(
            f"The files of {what} must be the official ones. Received: SHA-256 {got}, expected "
            f"{expected}. The source has changed; fetch the set by hand and pass --data."
        )


def _zip(path: Path, files: dict[str, bytes]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
        for name, content in sorted(files.items()):
            file.writestr(name, content)
    os.replace(temporary, path)


def _put(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
