"""`diff`: how many answers change between two versions of a model."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmkeras.core import Label, checks
from mmkeras.core.identifiers import nearest
from mmkeras.export.about import about
from mmkeras.export.answer import Loaded
from mmkeras.export.shown import Shown, columns


def diff(
    dir_a: str | os.PathLike,
    dir_b: str | os.PathLike,
    data: Any,
    *,
    split: str = "valid",
    groups: Mapping[str, Sequence] | None = None,
    tolerance: float = 1e-4,
    batch_size: int = 64,
) -> Shown:
    """Asks both versions all rows of a split and counts what changes; `print` shows it.

    Both are loaded as TF Serving loads them and asked raw items, each for the inputs it has. An
    answer changes where the label of a Classifier differs, any label of a MultiLabel, a number of
    another head by more than `tolerance`, or where a number is none (NaN).

    Args:
        dir_a, dir_b: version folders of `saved_model`; the heads that both have are compared.
        data: of `mk.data.table`.
        split: its rows are asked.
        groups: name -> one value per row of the split, e.g. `{"speaker": table["speaker"]}`;
            every Label among the targets is a group too, "" of rows that lack it.
        tolerance: as said.
        batch_size: rows asked at a time.

    Returns:
        A dict of `rows` and `heads`: head -> `changed` (answers), `largest` (the largest absolute
        difference of a score or number, class by class; None where classes or sizes differ); of a
        Classifier whose truth is there also `right_a`, `right_b`, `fixed` and `broken` (rows that
        are right in b only, or in a only; rows without truth are neither); and `groups`: group ->
        value -> `rows`, `changed` and, if so, `right_a`, `right_b`, `fixed`, `broken`.

    Raises:
        ValueError: no head in common, or a group without a value per row.
    """
    checks.whole("batch_size", batch_size)
    if split not in data.splits:
        raise ValueError(f"There is no split {split!r}. {nearest(split, data.splits)}")
    count = len(data.splits[split])
    targets = {n: _names(data, split, n) for n, t in data.targets.items() if isinstance(t, Label)}
    groups = {**targets, **(groups or {})}
    for name, values in groups.items():
        if len(values) != count:
            raise ValueError(
                f"A group must have a value for each of the {count} rows of {split!r}. Received: "
                f"{len(values)} of {name!r}."
            )
    abouts = [about(path) for path in (dir_a, dir_b)]
    kinds = [one["heads"] for one in abouts]
    shared = [head for head in kinds[0] if head in kinds[1]]
    if not shared:
        raise ValueError(
            "Two versions are compared by the heads that both have. Received: "
            f"{sorted(kinds[0])} and {sorted(kinds[1])}."
        )
    a, b = (_ask(path, data, split, count, batch_size) for path in (dir_a, dir_b))
    found = {"rows": count, "heads": {}}
    for head in shared:
        order = _order(*(one["classes"].get(head) for one in abouts))
        facts, largest = _facts(head, a, b, order, targets.get(head), tolerance)
        per_group = {
            name: {value: _sums(facts, rows) for value, rows in _parts(values)}
            for name, values in groups.items()
        }
        found["heads"][head] = {
            **_sums(facts, np.arange(count)),
            "largest": largest,
            "groups": per_group,
        }
    return Shown(found, _text(dir_a, dir_b, found))


def _names(data: Any, split: str, target: str) -> np.ndarray:
    truth = data.splits[split].truth
    names = np.array(data.targets[target].classes)[truth[target]]
    return np.where(truth.get(f"{target}_mask", True), names, "")


def _order(a: list[str] | None, b: list[str] | None) -> Any:
    """Returns where the classes of a stand in b; None where they are not the same classes."""
    if a is None and b is None:
        return slice(None)
    if a is None or b is None or set(a) != set(b):
        return None
    return [b.index(name) for name in a]


def _ask(path: Any, data: Any, split: str, count: int, batch_size: int) -> dict[str, np.ndarray]:
    with Loaded(path) as model:
        known = model.signatures["serving_default"].inputs
        answered = []
        for start in range(0, count, batch_size):
            raw = data.raw(split, range(start, min(start + batch_size, count)))
            answered.append(model.ask({k: v for k, v in raw.items() if k in known}))
    return {name: np.concatenate([one[name] for one in answered]) for name in answered[0]}


def _facts(
    head: str, a: dict, b: dict, order: Any, truth: np.ndarray | None, tolerance: float
) -> tuple[dict[str, np.ndarray], float | None]:
    """Returns name -> bool (N,), and the largest difference (None where the sizes differ)."""
    values = [one.get(f"{head}_scores", one[head]) for one in (a, b)]
    values = [np.reshape(value, (len(value), -1)) for value in values]
    same = order is not None and values[0].shape == values[1].shape
    if same:
        values[1] = values[1][:, order]
    none = [np.isnan(value).any(axis=1) for value in values]
    largest = float(np.max(np.abs(values[0] - values[1]))) if same else None
    for key in (f"{head}_label", f"{head}_labels"):
        if key in a and key in b:
            sets = zip(*map(_sets, (a[key], b[key])), strict=True)
            changed = none[0] | none[1] | np.array([x != y for x, y in sets], bool)
            break
    else:
        key, changed = "", np.ones(len(values[0]), bool)
        if same:
            changed = ~(np.abs(values[0] - values[1]).max(axis=1) <= tolerance)
    facts = {"changed": changed}
    if truth is not None and key == f"{head}_label":
        known = truth != ""
        right_a, right_b = a[key] == truth, b[key] == truth
        right_a, right_b = right_a & known & ~none[0], right_b & known & ~none[1]
        facts |= {"right_a": right_a, "right_b": right_b}
        facts |= {"fixed": right_b & ~right_a, "broken": right_a & ~right_b}
    return facts, largest


def _sets(labels: np.ndarray) -> list:
    return [set(np.atleast_1d(row).tolist()) - {""} for row in labels]


def _parts(values: Sequence) -> Iterator[tuple[str, np.ndarray]]:
    names = np.array([str(value) for value in values])
    for name in np.unique(names):
        yield str(name), np.flatnonzero(names == name)


def _sums(facts: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, int]:
    return {"rows": len(rows), **{name: int(held[rows].sum()) for name, held in facts.items()}}


def _text(dir_a: Any, dir_b: Any, found: dict) -> str:
    lines = [f"a {dir_a}", f"b {dir_b}"]
    for head, about_it in found["heads"].items():
        counts = [key for key in about_it if key not in ("groups", "largest")]
        rows = [(head, "", *counts), ("all", "", *(about_it[key] for key in counts))]
        for group, parts in about_it["groups"].items():
            rows += [(group, value, *(sums[k] for k in counts)) for value, sums in parts.items()]
        lines += columns(rows)
        lines.append(f"largest difference of a score or number: {about_it['largest']}")
    return "\n".join(lines)
