"""`table`: rows and specs in, tf.data pipelines out."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Target, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data import columns as column_family
from mmkeras.data import sources, truth, vocabulary
from mmkeras.data.augment import augmenter
from mmkeras.data.columns import Column, Reader
from mmkeras.data.scan import unreadable


@dataclass(frozen=True)
class Split:
    """The rows of one split: a column per modality and an array per target."""

    columns: dict[str, Column]
    truth: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())).index)

    def take(self, rows: np.ndarray) -> "Split":
        """Returns some rows."""
        return Split(
            {name: column.take(rows) for name, column in self.columns.items()},
            {name: values[rows] for name, values in self.truth.items()},
        )


@dataclass(frozen=True)
class Data:
    """Adapted modalities and targets, and the splits they were applied to.

    Attributes:
        modalities: name -> adapted spec, in declared order.
        targets: name -> adapted target.
        splits: "train" and, where given, "valid" and "test".
        bad: split -> modality -> {row of its source (from 1): reason} of what was masked with
            `on_bad="mask"`.
        seed: of the shuffle and the augmentation.
    """

    modalities: dict[str, Modality]
    targets: dict[str, Target]
    splits: dict[str, Split]
    bad: dict[str, dict[str, dict[int, str]]]
    seed: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the only target that has any."""
        found = [t.classes for t in self.targets.values() if getattr(t, "classes", None)]
        if len(found) != 1:
            raise ValueError(
                f"`data.classes` needs exactly one target with classes. Received: {len(found)}. "
                "Use data.targets['name'].classes."
            )
        return found[0]

    def train(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        augment: bool = True,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Returns full batches `(x, y)` of the training rows, in a new order every epoch.

        The order is a permutation of all rows, a function of the seed and the epoch alone (not
        of TensorFlow's global seed); what does not fill a batch is left out and differs from
        epoch to epoch. The cardinality is known, so `fit` needs no `steps_per_epoch`.

        Args:
            batch_size: rows per (global) batch.
            shuffle: False keeps the rows' order.
            augment: False leaves the modalities' `augment` out.
            shard: (i, n): every n-th row from the i-th on, for n readers.

        Raises:
            ValueError: there are fewer rows than `batch_size`.
        """
        rows = self._shard("train", shard)
        batch_size = checks.whole("batch_size", batch_size)
        # All shards take as many steps, or synchronous readers would wait for each other.
        steps = len(self._split("train")) // shard[1] // batch_size
        if not steps:
            raise ValueError(
                f"`batch_size` must not exceed the number of training rows. Received: "
                f"batch_size={batch_size}, rows={len(rows)}. Choose a smaller batch."
            )
        load = self._loader("train", augment)

        def epoch_of(number: Any) -> tf.data.Dataset:
            key = tf.stack([tf.cast(number, tf.uint32), tf.constant(self.seed, tf.uint32)])
            order = rows
            if shuffle:
                order = tf.random.experimental.stateless_shuffle(rows, tf.cast(key, tf.int64))
            chosen = tf.data.Dataset.from_tensor_slices(order)
            seeds = tf.data.Dataset.range(steps).map(lambda step: key + tf.cast(step, tf.uint32))
            return tf.data.Dataset.zip(chosen.batch(batch_size, drop_remainder=True), seeds)

        batches = _epoch_number(self.seed).flat_map(epoch_of)
        batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
        return batches.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)

    def valid(self, batch_size: int, **kwargs: Any) -> tf.data.Dataset:
        """Returns every validation row once; see `batches`."""
        return self.batches("valid", batch_size, **kwargs)

    def test(self, batch_size: int, **kwargs: Any) -> tf.data.Dataset:
        """Returns every test row once; see `batches`."""
        return self.batches("test", batch_size, **kwargs)

    def batches(
        self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
    ) -> tf.data.Dataset:
        """Returns every row of a split once and in order, in batches `(x, y)`.

        The rows are spread evenly, so that batches differ by at most one row and every replica
        gets some: no batch is left with a handful of rows.

        Args:
            split: name of a split.
            batch_size: largest batch.
            shard: (i, n): every n-th row from the i-th on.
        """
        rows = self._shard(split, shard)
        steps = -(-len(rows) // checks.whole("batch_size", batch_size))
        edges = np.linspace(0, len(rows), steps + 1).astype(np.int32)
        load = self._loader(split, augment=False)
        bounds = tf.data.Dataset.from_tensor_slices((edges[:-1], edges[1:]))
        return bounds.map(
            lambda a, b: load(rows[a:b], None), num_parallel_calls=tf.data.AUTOTUNE
        ).prefetch(2)

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(
                f"There is no split {name!r}. Received: {sorted(self.splits)}. "
                f"Pass `{name}=` to mk.data.table(...)."
            )
        return self.splits[name]

    def _shard(self, split: str, shard: tuple[int, int]) -> Any:
        number, count = shard
        if not 0 <= number < count:
            raise ValueError(f"`shard` must be (i, n) with 0 <= i < n. Received: {shard}.")
        rows = np.arange(len(self._split(split)), dtype=np.int32)[number::count]
        if not len(rows):
            raise ValueError(f"Shard {shard} of {split!r} has no rows. Use fewer shards.")
        return tf.constant(rows)

    def _loader(self, split: str, augment: bool) -> Any:
        """Returns rows (B,), seed (2,) -> (x, y)."""
        held = self._split(split)
        readers = {m: Reader(spec, held.columns[m]) for m, spec in self.modalities.items()}
        augmenters = {m: augmenter(spec) for m, spec in self.modalities.items() if augment}
        targets = {name: tf.constant(values) for name, values in held.truth.items()}

        def load(rows: Any, seed: Any) -> Any:
            x = {}
            for number, (name, reader) in enumerate(readers.items()):
                value, mask = reader(rows)
                if augmenters.get(name):
                    value = augmenters[name](
                        value, mask, seed + tf.constant([0, 7919 * number], tf.uint32)
                    )
                x[name], x[f"{name}_mask"] = value, mask
            y = {name: tf.gather(values, rows) for name, values in targets.items()}
            return (x, y) if y else (x,)

        return load

    def cache(self) -> "Data":
        """Returns the same data with every distinct item decoded once and held in memory.

        The raw items stay too, for `raw`.
        """
        splits = {
            name: replace(
                split,
                columns={m: _decode_all(self.modalities[m], c) for m, c in split.columns.items()},
            )
            for name, split in self.splits.items()
        }
        return replace(self, splits=splits)

    def raw(self, split: str, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Returns rows as a serving request holds them: encoded bytes, UTF-8, numbers."""
        held, rows = self._split(split), np.asarray(rows)
        return {
            m: column_family.encode(spec, held.columns[m], rows)
            for m, spec in self.modalities.items()
        }

    def take(self, split: str, rows: np.ndarray) -> "Data":
        """Returns the data with some rows of a split."""
        return replace(self, splits={**self.splits, split: self._split(split).take(rows)})

    def without(self, split: str, modality: str, rows: np.ndarray) -> "Data":
        """Returns the data with a modality made absent in some rows of a split."""
        held = self._split(split)
        if modality not in self.modalities:
            raise ValueError(f"Unknown modality {modality!r}. Known: {list(self.modalities)}.")
        columns = {**held.columns, modality: _absent(held.columns[modality], np.asarray(rows))}
        return replace(self, splits={**self.splits, split: replace(held, columns=columns)})


def _epoch_number(seed: int) -> tf.data.Dataset:
    """Returns one number: a new one at every iteration, a function of the seed and their count.

    As `tf.data.Dataset.random(seed, rerandomize_each_iteration=True).take(1)`, which however mixes
    TensorFlow's global seed in.
    """
    numbers = tf.raw_ops.RandomDatasetV2(
        seed=seed,
        seed2=1,
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        rerandomize_each_iteration=True,
        output_types=[tf.int64],
        output_shapes=[()],
    )
    return tf.data.experimental.from_variant(numbers, tf.TensorSpec((), tf.int64)).take(1)


def _absent(column: Column, rows: np.ndarray) -> Column:
    """Points some rows to a new, absent item."""
    empty = column.items[:1].copy()
    empty[0] = b"" if empty.dtype.kind == "O" else 0 if column.form == "decoded" else np.nan
    mask = None
    if column.mask is not None:
        mask = np.concatenate([column.mask, np.zeros_like(column.mask[:1])])
    index = column.index.copy()
    index[rows] = len(column.items)
    origin = None if column.origin is None else _absent(column.origin, rows)
    return Column(column.form, np.concatenate([column.items, empty]), index, mask, origin)


def _decode_all(modality: Modality, column: Column, chunk: int = 256) -> Column:
    if column.form == "decoded":
        return column
    reader = Reader(modality, column)
    ids = tf.data.Dataset.range(len(column.items)).batch(chunk)
    parts = list(ids.map(reader.decode, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator())
    values, masks = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Column("decoded", values, column.index, masks, column)


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
        train: path of a `.csv` or `.jsonl` manifest, a pandas DataFrame, or a dict of columns.
            A cell is a file path (or archive member), encoded bytes, text, numbers, or an array
            (uint8 pictures, float waves). An empty cell, None or NaN is an absent item.
        modalities: name -> spec, in the order in which a fusion will read them.
        target: column name (a Label), list of names, or dict name -> `mk.Label()`,
            `mk.Labels()`, `mk.Number()`.
        valid, test: sources of the same form; `valid` may be a fraction of the training rows.
        columns: modality or target -> column name, where they differ; a list of columns for
            the numbers of a Vector.
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
    where = dict(columns or {})
    for name in where:
        if name not in modalities and name not in truth.specs(target):
            raise ValueError(
                "`columns` must map names of modalities or targets to columns. Received: "
                f"{name!r}. {nearest(name, [*modalities, *truth.specs(target)])}"
            )
    archives = archive if isinstance(archive, Mapping) else dict.fromkeys(modalities, archive)
    rows = {"train": sources.read(train, root)}
    if isinstance(valid, float):
        rows["train"], rows["valid"] = _held_out(rows["train"], valid, group, seed)
    elif valid is not None:
        rows["valid"] = sources.read(valid, root)
    if test is not None:
        rows["test"] = sources.read(test, root)
    made = {
        split: {
            m: column_family.make(m, spec, part, where.get(m, m), archives.get(m))
            for m, spec in modalities.items()
        }
        for split, part in rows.items()
    }
    bad = {
        split: {
            m: _bad_rows(split, m, spec, rows[split], made[split], on_bad)
            for m, spec in modalities.items()
        }
        for split in rows
    }
    adapted = {m: vocabulary.adapt(spec, made["train"][m]) for m, spec in modalities.items()}
    targets = {
        name: truth.adapt(name, spec, rows["train"].column(where.get(name, name)))
        for name, spec in truth.specs(target).items()
    }
    splits = {
        split: Split(
            made[split],
            {
                name: truth.encode(name, spec, part, part.column(where.get(name, name)))
                for name, spec in targets.items()
            },
        )
        for split, part in rows.items()
    }
    return Data(adapted, targets, splits, bad, seed)


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
                f"The modality {name!r} must be mk.Image(), mk.Text(), mk.Audio() or mk.Vector(). "
                f"Received: {spec!r}."
            )


def _bad_rows(
    split: str, name: str, spec: Modality, rows: Any, made: dict[str, Column], on_bad: str
) -> dict[int, str]:
    """Raises for, or masks, the unreadable items of a column; returns row number -> reason."""
    column = made[name]
    reasons = unreadable(spec, column)
    if not reasons:
        return {}
    found = {
        int(row): reasons[int(item)]
        for row, item in zip(rows.numbers, column.index, strict=True)
        if int(item) in reasons
    }
    row, reason = next(iter(found.items()))
    if on_bad == "error":
        raise ValueError(
            f"{len(found)} item(s) of {name!r} in the {split} rows cannot be read. First: row "
            f"{row} of {rows.where}, column {name!r}: {reason}. Correct them, or pass "
            "on_bad='mask' to treat them as absent."
        )
    made[name] = column.without(np.array(sorted(reasons)))
    return found


def _held_out(rows: Any, fraction: float, group: str | None, seed: int) -> tuple[Any, Any]:
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
