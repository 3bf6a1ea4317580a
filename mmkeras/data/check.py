"""`check`: what is in the data, and what is wrong with it, before training."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmkeras.core import Number
from mmkeras.data.dataset import Data
from mmkeras.data.fingerprint import of_rows
from mmkeras.data.table import table


@dataclass(frozen=True)
class Report:
    """What `check` found; `print(report)` shows it.

    Attributes:
        rows: split -> number of rows.
        shapes: modality -> (shape, dtype) of a decoded sample.
        missing: split -> modality -> number of absent items (unreadable ones not counted).
        unreadable: split -> modality -> {row of its source (from 1): reason}.
        labels: split -> target -> {class: count}, most frequent first.
        duplicates: (split, split) -> modality -> rows of the second split whose item is in the
            first too; the key "row" counts rows that agree in every modality and hold any.
    """

    rows: dict[str, int]
    shapes: dict[str, tuple]
    missing: dict[str, dict[str, int]]
    unreadable: dict[str, dict[str, dict[int, str]]]
    labels: dict[str, dict[str, dict[str, int]]]
    duplicates: dict[tuple[str, str], dict[str, int]]

    @property
    def ok(self) -> bool:
        """Whether nothing is unreadable and no whole row stands in two splits."""
        readable = not any(rows for part in self.unreadable.values() for rows in part.values())
        return readable and not any(part["row"] for part in self.duplicates.values())

    def __str__(self) -> str:
        """The report as text."""
        lines = []
        for split, count in self.rows.items():
            lines.append(f"{split}: {count} rows")
            for name, (shape, dtype) in self.shapes.items():
                bad = self.unreadable[split][name]
                lines.append(
                    f"  {name} {dtype}{shape}: {self.missing[split][name]} missing, "
                    f"{len(bad)} unreadable"
                )
                lines += [f"    row {row}: {reason}" for row, reason in list(bad.items())[:5]]
            for target, counts in self.labels[split].items():
                shown = ", ".join(f"{c} {n}" for c, n in list(counts.items())[:12])
                more = f", ... {len(counts)} classes" if len(counts) > 12 else ""
                lines.append(f"  {target}: {shown}{more}")
        for (first, second), part in self.duplicates.items():
            shown = ", ".join(f"{name} {count}" for name, count in part.items())
            lines.append(f"in {second} and in {first} too: {shown}")
        return "\n".join(lines)


def check(train: Any, modalities: Any, target: Any = None, **kwargs: Any) -> Report:
    """Reads the data as `table` does (same arguments) and reports what it finds.

    Unreadable items are listed instead of raised; a source that cannot be read at all, an unknown
    column and a missing or unknown label raise as in `table`.

    Returns:
        A `Report` of shapes, missing items, unreadable files, label counts and duplicates across
        splits (by content: files are compared by what is in them).
    """
    data = table(train, modalities, target, **{**kwargs, "on_bad": "mask"})
    keys = {
        split: {m: of_rows(c) for m, c in held.columns.items()}
        for split, held in data.splits.items()
    }
    names = list(data.splits)
    return Report(
        rows={split: len(held) for split, held in data.splits.items()},
        shapes={m: (spec.shape, spec.dtype) for m, spec in data.modalities.items()},
        missing={
            split: {
                m: int(c.absent().sum()) - len(data.bad[split][m]) for m, c in h.columns.items()
            }
            for split, h in data.splits.items()
        },
        unreadable=data.bad,
        labels={split: _label_counts(data, split) for split in names},
        duplicates={
            (a, b): _shared(keys[a], keys[b]) for i, a in enumerate(names) for b in names[i + 1 :]
        },
    )


def _label_counts(data: Data, split: str) -> dict[str, dict[str, int]]:
    counts = {}
    for name, spec in data.targets.items():
        if isinstance(spec, Number):
            continue
        values = data.splits[split].truth[name]
        numbers = (
            values.sum(axis=0)
            if values.ndim == 2
            else np.bincount(values, minlength=len(spec.classes))
        )
        named = Counter({c: int(n) for c, n in zip(spec.classes, numbers, strict=True)})
        counts[name] = dict(named.most_common())
    return counts


def _shared(first: dict[str, list], second: dict[str, list]) -> dict[str, int]:
    out = {}
    for name in first:
        held = set(first[name]) - {b""}
        out[name] = sum(key in held for key in second[name])
    whole = set(zip(*first.values(), strict=True)) - {(b"",) * len(first)}
    out["row"] = sum(key in whole for key in zip(*second.values(), strict=True))
    return out
