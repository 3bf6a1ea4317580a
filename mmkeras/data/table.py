"""`table`: rows and specs in, `Data` out."""

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data import kinds, sources, truth
from mmkeras.data.columns import Column
from mmkeras.data.dataset import Data, Split
from mmkeras.data.scan import unreadable, unusable
from mmkeras.data.sources import Rows


def table(
    train: Any,
    modalities: Mapping[str, Modality],
    target: Any = None,
    *,
    valid: Any = None,
    test: Any = None,
    columns: Mapping[str, Any] | None = None,
    root: str | os.PathLike | None = None,
    archive: Any = None,
    group: str | None = None,
    on_bad: str = "error",
    seed: int = 0,
) -> Data:
    """Reads rows, learns vocabularies, statistics and classes from the training rows, checks all.

    Every distinct file is decoded once before this returns, so a broken one is reported before
    any training starts.

    Args:
        train: path of a `.csv`, `.jsonl` or `.parquet` manifest, a pandas DataFrame, a dict of
            columns, or a finite `tf.data.Dataset` of dicts (of TFDS: `mk.data.tfds`).
            A cell is a file path (or archive member), encoded bytes, text, numbers, or an array
            (uint8 pictures and clips, float waves, series); of `Several` a list of them. An empty
            cell, None or NaN is an absent item.
        modalities: name -> spec, in the order in which a fusion will read them.
        target: column name (a Label), list of names, or dict name -> `mk.Label()`,
            `mk.Labels()`, `mk.Number()`.
        valid, test: sources of the same form; `valid` may be a fraction of the training rows.
        columns: modality or target -> column name, where they differ; a list of columns for
            the numbers of a Vector or the items of `Several`, a dict of a Table's columns to
            those of the source.
        root: folder of relative paths; the manifest's own when None.
        archive: a zip or tar file (or dict modality -> file) whose members the cells name.
        group: column whose equal cells stay together when `valid` is a fraction.
        on_bad: "error" raises at the first unreadable item, naming row, column and reason;
            "mask" makes such items absent and lists them in `data.bad`.
        seed: of the validation split, the shuffle and the augmentation.

    Returns:
        `Data`.
    """
    _check_modalities(modalities)
    checks.one_of("on_bad", on_bad, ("error", "mask"))
    checks.whole("seed", seed, 0)
    targets = truth.specs(target)
    where = _column_names(columns, [*modalities, *targets])
    archives = archive if isinstance(archive, Mapping) else dict.fromkeys(modalities, archive)
    for name in archives:
        if name not in modalities:
            raise ValueError(f"Unknown modality {name!r} in `archive`. {nearest(name, modalities)}")
    if group is not None and not isinstance(valid, float):
        raise ValueError(
            f"`group` keeps rows together when `valid` is a fraction. Received: group={group!r}, "
            "valid of its own. Leave `group` out."
        )
    rows = _read_splits(train, valid, test, root, group, seed)
    made = {
        split: {
            m: kinds.make(m, spec, part, where[m], archives.get(m))
            for m, spec in modalities.items()
        }
        for split, part in rows.items()
    }
    bad = {
        split: {
            m: _bad_rows(split, m, unreadable(spec.item, made[split][m]), rows, made, on_bad)
            for m, spec in modalities.items()
        }
        for split in rows
    }
    adapted = {m: kinds.adapt(spec, made["train"][m]) for m, spec in modalities.items()}
    for split, found in bad.items():  # what only mean and scale tell
        for m, spec in adapted.items():
            reasons = unusable(spec.item, made[split][m])
            found[m] |= _bad_rows(split, m, reasons, rows, made, on_bad)
    targets = {
        name: truth.adapt(name, spec, rows["train"].column(where[name]))
        for name, spec in targets.items()
    }
    splits = {
        split: Split(
            made[split],
            {
                key: values
                for name, spec in targets.items()
                for key, values in truth.encode(name, spec, part, part.column(where[name])).items()
            },
        )
        for split, part in rows.items()
    }
    return Data(adapted, targets, splits, bad, seed)


def _column_names(columns: Mapping[str, Any] | None, known: list[str]) -> dict[str, Any]:
    """Returns name -> column for every modality and target; the name itself by default."""
    for name in columns or {}:
        if name not in known:
            raise ValueError(
                "`columns` must map names of modalities or targets to columns. Received: "
                f"{name!r}. {nearest(name, known)}"
            )
    return {**{name: name for name in known}, **(columns or {})}


def _read_splits(
    train: Any, valid: Any, test: Any, root: Any, group: str | None, seed: int
) -> dict[str, Rows]:
    """Returns split -> rows, in the order train, valid, test."""
    rows = {"train": sources.read(train, root)}
    if isinstance(valid, float):
        rows["train"], rows["valid"] = _held_out(rows["train"], valid, group, seed)
    elif valid is not None:
        rows["valid"] = sources.read(valid, root)
    if test is not None:
        rows["test"] = sources.read(test, root)
    return rows


def _check_modalities(modalities: Mapping[str, Modality]) -> None:
    checks.modality_names(modalities)
    if not isinstance(modalities, Mapping):
        raise TypeError(
            f"`modalities` must be a dict of name -> spec. Received: {modalities!r}. Write "
            "{'image': mk.Image(), ...}."
        )
    for name, spec in modalities.items():
        if not isinstance(spec, Modality):
            raise TypeError(
                f"The modality {name!r} must be a spec such as mk.Image() or mk.Text(). Received: "
                f"{spec!r}."
            )


def _bad_rows(
    split: str,
    name: str,
    reasons: dict[int, str],
    rows: dict[str, Rows],
    made: dict[str, dict[str, Column]],
    on_bad: str,
) -> dict[int, str]:
    """Raises for, or masks, the unreadable items of a column; returns row number -> reason."""
    if not reasons:
        return {}
    column, rows = made[split][name], rows[split]
    found = {
        int(row): reasons[int(item)]
        for row, items in zip(rows.numbers, column.index.reshape(len(rows), -1), strict=True)
        for item in items
        if int(item) in reasons
    }
    row, reason = next(iter(found.items()))
    if on_bad == "error":
        raise ValueError(
            f"{len(found)} item(s) of {name!r} in the {split} rows cannot be read. First: row "
            f"{row} of {rows.where}, column {name!r}: {reason}. Correct them, or pass "
            "on_bad='mask' to treat them as absent."
        )
    warnings.warn(
        f"{len(found)} of {len(column.index)} items of {name!r} in the {split} rows cannot be "
        f"read and count as absent; data.bad[{split!r}][{name!r}] tells which and why. First: "
        f"row {row}: {reason}.",
        stacklevel=4,
    )
    made[split][name] = column.without(np.array(sorted(reasons)))
    return found


def _held_out(rows: Rows, fraction: float, group: str | None, seed: int) -> tuple[Rows, Rows]:
    """Splits rows (or whole groups of rows) at random."""
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"`valid` as a fraction must lie in (0, 1). Received: {fraction}.")
    keys = np.arange(len(rows))
    if group is not None:
        keys = np.unique(np.array([str(c) for c in rows.column(group)]), return_inverse=True)[1]
    count = int(keys.max()) + 1
    if count < 2:
        raise ValueError(
            "`valid` as a fraction needs at least two rows (or groups) to divide. Received: "
            f"{count} in {rows.where}. Pass a source of its own as `valid=`."
        )
    size = min(max(1, round(count * fraction)), count - 1)
    chosen = np.random.default_rng(seed).permutation(count)[:size]
    held = np.isin(keys, chosen)
    return rows.take(np.flatnonzero(~held)), rows.take(np.flatnonzero(held))
