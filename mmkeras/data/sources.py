"""Where rows come from: manifests, Parquet, DataFrames, datasets, in-memory columns, archives."""

import csv
import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core.identifiers import nearest

ARCHIVE_LIMIT = 4 * 2**30


def missing(cell: Any) -> bool:
    """Whether a cell holds nothing: None, an empty string, NaN, or NA of pandas."""
    if cell is None or isinstance(cell, str | bytes):
        return not cell
    if isinstance(cell, float | np.floating):
        return bool(np.isnan(cell))
    return type(cell).__name__ in ("NAType", "NaTType")


class Rows:
    """Columns of equal length, by name, with the words for an error message.

    Attributes:
        columns: name -> list or array; see `missing` for empty cells.
        where: what to call the source, e.g. "train.csv".
        root: folder to which relative paths refer, or None.
        numbers: the rows' numbers in the source, from 1; they stay when rows are taken.
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        where: str,
        root: Path | None,
        numbers: np.ndarray | None = None,
    ) -> None:
        """Checks that the columns are of one length and not empty."""
        self.columns = {
            name: values if isinstance(values, list | np.ndarray) else list(values)
            for name, values in columns.items()
        }
        self.where, self.root = where, root
        lengths = {name: len(values) for name, values in self.columns.items()}
        if not lengths or not max(lengths.values()):
            raise ValueError(f"A source must hold at least one row. Received: {where} is empty.")
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Columns must be of one length. Received: {lengths} in {where}.")
        self.numbers = np.arange(1, len(self) + 1) if numbers is None else numbers

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str) -> Any:
        """Returns a column, or raises with the nearest name."""
        if name not in self.columns:
            raise ValueError(
                f"Unknown column {name!r} in {self.where}. {nearest(name, self.columns)} "
                "Map names with `columns={'modality': 'column'}`."
            )
        return self.columns[name]

    def take(self, rows: np.ndarray) -> "Rows":
        """Returns some rows."""
        picked = {
            name: values[rows] if isinstance(values, np.ndarray) else [values[i] for i in rows]
            for name, values in self.columns.items()
        }
        return Rows(picked, self.where, self.root, self.numbers[rows])


def read(source: Any, root: str | os.PathLike | None = None) -> Rows:
    """Returns the rows of a source.

    Args:
        source: path of a `.csv`, `.jsonl` or `.parquet` file, a pandas DataFrame, a dict of
            columns (lists or NumPy arrays), a finite `tf.data.Dataset` of dicts, one row each, or
            `Rows`.
        root: folder of relative file paths; the manifest's own folder when None.

    Raises:
        ValueError: no such file, an empty one, a broken line, another format.
    """
    root = Path(root) if root is not None else None
    if isinstance(source, Rows):
        return source
    if isinstance(source, Mapping):
        return Rows(source, "the given columns", root)
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        columns = {
            str(name): [None if missing(cell) else cell for cell in source[name]]
            for name in source.columns
        }
        return Rows(columns, "the DataFrame", root)
    if isinstance(source, tf.data.Dataset):
        return Rows(_read_dataset(source), "the dataset", root)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            "A source must be a path, a DataFrame, a tf.data.Dataset or a dict of columns. "
            f"Received: {type(source).__name__}."
        )
    path = Path(source)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"A manifest must be a {' or '.join(readers)} file. Received: {str(path)!r}. "
            "Read other formats with pandas and pass the DataFrame."
        )
    if not path.is_file():
        raise ValueError(f"The manifest must exist. Received: {str(path)!r}, no such file.")
    try:
        columns = readers[path.suffix.lower()](path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"A manifest must be UTF-8 text. Received: {path.name}: {error}. Read it with pandas, "
            "which takes an encoding, and pass the DataFrame."
        ) from error
    return Rows(columns, path.name, root if root is not None else path.parent)


def _read_csv(path: Path) -> dict[str, list]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        header = next(lines, None)
        if not header:
            raise ValueError(f"A CSV file must start with a header. Received: {path} is empty.")
        columns: dict[str, list] = {name: [] for name in header}
        if len(columns) != len(header):
            raise ValueError(f"Column names must differ. Received: {header} in {path.name}.")
        for cells in lines:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"Every line must have {len(header)} cells. Received: {len(cells)} in line "
                    f"{lines.line_num} of {path.name}. Quote cells that hold commas."
                )
            for name, cell in zip(header, cells, strict=True):
                columns[name].append(cell if cell != "" else None)
    return columns


def _read_jsonl(path: Path) -> dict[str, list]:
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"Every line must be a JSON object. Line {number} of {path.name}: {error}."
                ) from error
            if not isinstance(row, dict):
                raise ValueError(
                    f"Every line must be a JSON object. Line {number} of {path.name}: {line[:40]}"
                )
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_parquet(path: Path) -> dict[str, list]:
    """Columns as Python values; a struct of `bytes` and `path` is an encoded picture or sound."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'mmkeras[parquet]'.") from error
    try:
        held = parquet.read_table(path)
    except (ArrowException, OSError) as error:
        raise ValueError(
            f"A .parquet file must be one. Received: {path.name}: {error}. Write it again."
        ) from error
    columns = {name: held.column(name).to_pylist() for name in held.column_names}
    return {name: [_file_of(cell) for cell in cells] for name, cells in columns.items()}


def _file_of(cell: Any) -> Any:
    """Returns the bytes (or else the path) of a struct that holds a file, as data hubs do."""
    if isinstance(cell, dict) and set(cell) <= {"bytes", "path"}:
        return cell.get("bytes") or cell.get("path")
    return cell


def _read_dataset(dataset: tf.data.Dataset) -> dict[str, list]:
    spec = dataset.element_spec
    if not isinstance(spec, Mapping) or dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "A tf.data.Dataset as a source must be finite and hold a dict of columns per row. "
            f"Received: {spec}, cardinality {int(dataset.cardinality())}. Map it to dicts, without "
            "batch() and repeat(); one of batches (x, y) goes to model.fit as it is."
        )
    rows = list(dataset.as_numpy_iterator())
    return {name: [row[name] for row in rows] for name in spec}


def read_members(
    archive: str | os.PathLike, wanted: Iterable[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Returns the bytes of some members of a zip or tar file, and the reasons of broken ones.

    They are held in memory, compressed as they are; an archive whose wanted members pass 4 GiB
    is refused. Members that do not exist are in neither dict.
    """
    wanted, archive = set(wanted), Path(archive)
    if not archive.is_file():
        raise ValueError(f"The archive must exist. Received: {str(archive)!r}, no such file.")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            found = [info for info in file.infolist() if info.filename in wanted]
            _check_size(archive, sum(info.file_size for info in found))
            return _each((info.filename, partial(file.read, info)) for info in found)
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            members = [m for m in file.getmembers() if m.isfile() and m.name in wanted]
            _check_size(archive, sum(m.size for m in members))
            return _each((m.name, file.extractfile(m).read) for m in members)
    raise ValueError(f"An archive must be a zip or tar file. Received: {str(archive)!r}.")


def _each(members: Iterable[tuple[str, Any]]) -> tuple[dict[str, bytes], dict[str, str]]:
    held, broken = {}, {}
    for name, read_one in members:
        try:
            held[name] = read_one()
        except (zipfile.BadZipFile, zlib.error, tarfile.TarError, EOFError) as error:
            broken[name] = f"the archive's member {name!r} is broken: {error}"
    return held, broken


def _check_size(archive: Path, size: int) -> None:
    if size > ARCHIVE_LIMIT:
        raise ValueError(
            f"The members of an archive must fit into {ARCHIVE_LIMIT} bytes of memory. Received: "
            f"{size} bytes in {str(archive)!r}. Unpack it and pass `root=` instead of `archive=`."
        )
