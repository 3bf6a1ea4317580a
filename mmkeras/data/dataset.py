"""`Data`: adapted modalities, targets and splits, and the tf.data pipelines over them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Target, checks
from mmkeras.core.identifiers import nearest
from mmkeras.data import buckets as by_length
from mmkeras.data import drop as dropout
from mmkeras.data.augment import augmenter
from mmkeras.data.blend import mixer
from mmkeras.data.cache import decoded
from mmkeras.data.columns import Column
from mmkeras.data.draws import Draws
from mmkeras.data.kinds import encode
from mmkeras.data.options import tuned_map
from mmkeras.data.reader import Reader
from mmkeras.data.splits import Splits, check_shard, steps_of, training


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
class Data(Splits):
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
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.splits)

    def train(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        augment: bool = True,
        mix: Mapping[str, Mapping] | None = None,
        shard: tuple[int, int] = (0, 1),
        buckets: Mapping[str, Sequence[int]] | None = None,
        drop: float | dropout.Ramp | Mapping[str, float | dropout.Ramp] | None = None,
    ) -> tf.data.Dataset:
        """Returns full batches `(x, y)` of the training rows, in a new order every epoch.

        The order is a permutation of all rows, a function of the seed and the epoch alone (not
        of TensorFlow's global seed); what does not fill a batch is left out and differs from
        epoch to epoch. The cardinality is known, so `fit` needs no `steps_per_epoch`.

        The dataset carries `steps` (per epoch) and `stream(first_step=0, shard=shard)`, the same
        batches without end from a global step on: the batch of step s belongs to epoch
        s // steps and is a function of (seed, s) alone. `mmkeras.Model.fit` reads the stream,
        which makes an interrupted run resumable at any step; iterated by hand, every pass over
        the dataset is an epoch of its own.

        Args:
            batch_size: rows per global batch.
            shuffle: False keeps the rows' order.
            augment: False leaves the modalities' `augment` out.
            mix: MixUp or CutMix, e.g. `{"mixup": {"alpha": 0.2}}`; labels become soft. See
                `mmkeras.data.blend`.
            shard: (i, n): the i-th of n equal parts of every global batch, for n readers; the
                same rows, augmented alike, as one reader's.
            buckets: modality (a text, a series, a sequence of vectors) -> lengths, e.g.
                `{"question": (8, 16, 32)}`: rows of like length come in one batch, which is cut
                to the smallest length that keeps all its tokens, the declared one at most. The
                numbers of a step are those of the padded batch, to float32 rounding, for a
                fraction of the time: about that of the padding. Of an epoch the same rows come as
                without, batches in random order; but a batch is no longer a random choice of
                rows, which may cost some accuracy where the length tells the answer. Every length
                (of several modalities every combination) is traced, and with XLA compiled, once:
                three or four are enough. Before, every distinct text is decoded once.
            drop: modality dropout: the rate at which a modality is taken away from a sample, e.g.
                `{"image": 0.3, "text": 0.1}`, or one for all; `mk.data.Ramp(0.0, 0.5, steps=2000)`
                for one that changes. A sample keeps at least one of the modalities it has, unless
                the rate is 1; see `mmkeras.data.drop`. After `mix`, before the cut of `buckets`
                (which are grouped by what the rows hold). Iterated by hand, every pass over the
                dataset begins a `Ramp` anew.

        Raises:
            ValueError: there are fewer rows than `batch_size`, or it does not divide by n, or (to
                be mixed) a part is odd; or the data cannot be mixed; or wrong buckets or rates.
        """
        count = len(self._split("train"))
        batch_size, steps = steps_of(count, batch_size, shard)
        lengths = by_length.checked(buckets, self.modalities)
        if lengths:
            code = by_length.of_columns(lengths, self.modalities, self.splits["train"].columns)
        load = self._loader("train", augment, mix)
        without = dropout.in_training(drop, self.modalities)

        def order_of(number: Any) -> Any:
            """Rows of an epoch, in its order."""
            order, key = tf.range(count), None
            if shuffle:
                key = tf.stack([number, tf.constant(self.seed, tf.int64)])
                order = tf.random.experimental.stateless_shuffle(order, key)
            if lengths:
                found = by_length.grouped(tf.gather(code, order), batch_size, key=key)
                order = tf.gather(order, found)
            return order

        def batch(number: Any, order: Any, step: Any, shard: tuple[int, int]) -> tuple[Any, Any]:
            """Rows and seed of the batch `step` of an epoch."""
            size = batch_size // shard[1]
            start = tf.cast(step, tf.int32) * batch_size + shard[0] * size
            seed = tf.stack([number + step, self.seed + step])
            rows = tf.ensure_shape(order[start : start + size], [size])
            return rows, tf.cast(seed, tf.uint32)

        def loaded(batches: tf.data.Dataset, shard: tuple[int, int] = shard) -> tf.data.Dataset:
            check_shard(shard, batch_size)
            if mix is not None and batch_size // shard[1] % 2:
                raise ValueError(
                    "To be mixed, every reader's part of a batch must be even. Received: "
                    f"batch_size={batch_size} for {shard[1]} reader(s). Choose a multiple of "
                    f"{2 * shard[1]}."
                )

            def made(rows: Any, seed: Any, step: Any) -> tuple:
                draws = Draws(seed, shard)
                return by_length.cut(lengths, without(load(rows, draws), draws, step))

            return tuned_map(batches, made)

        def epoch(number: Any) -> tf.data.Dataset:
            order = order_of(number)
            return tf.data.Dataset.range(steps).map(
                lambda step: (*batch(number, order, step, shard), step)
            )

        def stream(first_step: int = 0, shard: tuple[int, int] = shard) -> tf.data.Dataset:
            check_shard(shard, batch_size)
            first_step = checks.whole("first_step", first_step, 0)
            numbers = tf.data.Dataset.range(first_step, tf.int64.max)

            def next_batch(held: tuple, step: Any) -> tuple:
                """Carries the order of an epoch along; one number in is one batch out."""
                number, order = held
                new = step // steps
                order = tf.cond(new == number, lambda: order, lambda: order_of(new))
                return (new, order), (*batch(new, order, step % steps, shard), step)

            unknown = (tf.constant(-1, tf.int64), tf.zeros([count], tf.int32))
            batches = numbers.scan(unknown, next_batch)
            return loaded(batches, shard)

        return training(
            self.seed, steps, epoch=epoch, loaded=loaded, stream=stream, buckets=lengths
        )

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        shard: tuple[int, int] = (0, 1),
        drop: float | Mapping[str, float] | None = None,
    ) -> tf.data.Dataset:
        """Returns every row of a split once and in order, in batches `(x, y)`.

        The rows are spread evenly, so that batches differ by at most one row and every replica
        gets some: no batch is left with a handful of rows. The dataset carries `part(shard)`,
        the same batches for one of several readers.

        Args:
            split: name of a split.
            batch_size: largest global batch.
            shard: (i, n): the i-th of n even parts of every batch.
            drop: rates as of `train`, but no `Ramp`. What is missing in a row is a function of
                the data's seed and the row's number in the split, whatever the batch size.

        Raises:
            ValueError: a batch has fewer rows than there are readers; or wrong rates.
        """
        count = len(self._split(split))
        steps = -(-count // checks.whole("batch_size", batch_size))
        edges = np.linspace(0, count, steps + 1).astype(np.int32)
        load = self._loader(split)
        without = dropout.in_evaluation(drop, self.modalities, rows=count, seed=self.seed)

        def part(shard: tuple[int, int]) -> tf.data.Dataset:
            check_shard(shard)
            if count // steps < shard[1]:
                raise ValueError(
                    f"Every reader needs a row of every batch. Received: batches of "
                    f"{count // steps} rows of {split!r} for {shard[1]} readers. Choose a larger "
                    "batch, or fewer readers."
                )
            sizes = np.diff(edges)
            bounds = [edges[:-1] + sizes * (shard[0] + end) // shard[1] for end in (0, 1)]
            ranges = tf.data.Dataset.from_tensor_slices(tuple(bounds))

            def made(first: Any, last: Any) -> tuple:
                rows = tf.range(first, last)
                return without(load(rows, None), rows)

            return tuned_map(ranges, made)

        dataset = part(shard)
        dataset.part = part
        return dataset

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(
                f"There is no split {name!r}. Received: {sorted(self.splits)}. "
                f"Pass `{name}=` to mk.data.table(...)."
            )
        return self.splits[name]

    def _loader(self, split: str, augment: bool = False, mix: Mapping | None = None) -> Any:
        """Returns rows (B,), draws -> (x, y)."""
        held = self._split(split)
        readers = {m: Reader(spec, held.columns[m]) for m, spec in self.modalities.items()}
        augmenters = {m: augmenter(spec) for m, spec in self.modalities.items() if augment}
        targets = {name: tf.constant(values) for name, values in held.truth.items()}
        mixed = None if mix is None else mixer(mix, self.modalities, self.targets)

        def load(rows: Any, draws: Draws | None) -> Any:
            x = {}
            for number, (name, reader) in enumerate(readers.items()):
                own = draws.fold(0, 7919 * number) if augment else None
                value, mask = reader(rows, own)
                if augmenters.get(name):
                    value = augmenters[name](value, mask, own)
                x[name], x[f"{name}_mask"] = value, mask
            y = {name: tf.gather(values, rows) for name, values in targets.items()}
            if mixed is not None:
                x, y = mixed(x, y, draws.fold(0, 7919 * len(readers)))
            return (x, y) if y else (x,)

        return load

    def cache(self, folder: str | os.PathLike | None = None) -> "Data":
        """Returns the same data with every distinct item decoded (and resized) once.

        The raw items stay too, for `raw`. Augmentation acts on the decoded items.

        Args:
            folder: keeps them on disk, under a hash of specs and items, from where the next start
                takes them and batches map them; in memory when None.
        """
        splits = {
            name: replace(
                split,
                columns={
                    m: decoded(self.modalities[m], c, folder) for m, c in split.columns.items()
                },
            )
            for name, split in self.splits.items()
        }
        return replace(self, splits=splits)

    def raw(self, split: str, rows: Sequence[int]) -> dict[str, np.ndarray]:
        """Returns rows as a serving request holds them: encoded bytes, UTF-8, numbers."""
        held, rows = self._split(split), np.asarray(rows)
        return {m: encode(spec, held.columns[m], rows) for m, spec in self.modalities.items()}

    def take(self, split: str, rows: np.ndarray) -> "Data":
        """Returns the data with some rows of a split."""
        return replace(self, splits={**self.splits, split: self._split(split).take(rows)})

    def with_targets(self, names: Sequence[str]) -> "Data":
        """Returns the data with some of its targets, in this order: for a model of fewer heads."""
        for name in names:
            if name not in self.targets:
                raise ValueError(f"Unknown target {name!r}. {nearest(name, self.targets)}")
        kept = [key for name in names for key in (name, f"{name}_mask")]
        splits = {
            split: replace(held, truth={key: held.truth[key] for key in kept if key in held.truth})
            for split, held in self.splits.items()
        }
        return replace(self, targets={n: self.targets[n] for n in names}, splits=splits)

    def without(self, split: str, modality: str, rows: np.ndarray) -> "Data":
        """Returns the data with a modality made absent in some rows of a split."""
        held = self._split(split)
        if modality not in self.modalities:
            raise ValueError(f"Unknown modality {modality!r}. Known: {list(self.modalities)}.")
        columns = {**held.columns, modality: _absent(held.columns[modality], np.asarray(rows))}
        return replace(self, splits={**self.splits, split: replace(held, columns=columns)})


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
