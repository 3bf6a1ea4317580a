"""`Shards`: training and evaluation from TFRecord files, larger than memory, in an exact order.

The order of an epoch is a function of (seed, epoch): the files in a permutation, `pool_shards` of
them read at a time, the rows of a pool in a permutation. So the batch of global step s is a
function of (seed, s) alone, as with `Data`; a run that goes on at step s passes over whole pools
without reading them and reads at most one in vain. With as many files as `pool_shards`, or fewer,
the order is a permutation of all rows.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality, Target, checks, from_json
from mmkeras.core.targets import KINDS as TARGETS
from mmkeras.data import buckets as by_length
from mmkeras.data import drop as dropout
from mmkeras.data.draws import Draws
from mmkeras.data.options import tuned_map
from mmkeras.data.records import coder, loader
from mmkeras.data.splits import Splits, check_shard, steps_of, training
from mmkeras.data.write_shards import FORMAT, SCHEMA, checksum


def shards(
    folder: str | os.PathLike, *, seed: int = 0, pool_shards: int = 8, verify: bool = False
) -> "Shards":
    """Opens what `write_shards` wrote.

    Args:
        folder: with a `schema.json`.
        seed: of the shuffle and the augmentation.
        pool_shards: files whose rows are mixed; their bytes are held in memory twice (the next
            pool is read while one is used).
        verify: also checks the SHA-256 of every file; its size is always checked, and every
            record carries a checksum of its own that is checked when it is read.

    Raises:
        ValueError: no complete shards there, or a file that is missing or changed.
    """
    folder = Path(folder)
    if not (folder / SCHEMA).is_file():
        raise ValueError(
            f"Shards are a folder with a {SCHEMA}, which is written last. Received: "
            f"{str(folder)!r}, without. Call mk.data.write_shards(...) (again: it goes on)."
        )
    schema = json.loads((folder / SCHEMA).read_text(encoding="utf-8"))
    if schema.get("format") != FORMAT:
        raise ValueError(
            f"The shards must be of format {FORMAT}. Received: {schema.get('format')} in "
            f"{str(folder)!r}. Write them again."
        )
    for about in (about for files in schema["splits"].values() for about in files):
        _check(folder / about["file"], about, verify)
    return Shards(
        folder=folder,
        modalities=from_json(json.dumps({"modalities": schema["modalities"]})),
        targets={name: _target(config) for name, config in schema["targets"].items()},
        files=schema["splits"],
        seed=checks.whole("seed", seed, 0),
        pool_shards=checks.whole("pool_shards", pool_shards),
    )


@dataclass(frozen=True)
class Shards(Splits):
    """Splits on disk, with the `train`, `valid`, `test` and `batches` of `Data`.

    Attributes:
        folder: where they are.
        modalities, targets: adapted, in declared order.
        files: split -> entries of the schema.
        seed, pool_shards: see `shards`.
    """

    folder: Path
    modalities: dict[str, Modality]
    targets: dict[str, Target]
    files: dict[str, list[dict]]
    seed: int = 0
    pool_shards: int = 8

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.files)

    def rows(self, split: str) -> int:
        """Returns the number of rows of a split."""
        if split not in self.files:
            raise ValueError(f"There is no split {split!r}. Received: {sorted(self.files)}.")
        return sum(about["rows"] for about in self.files[split])

    def train(
        self,
        batch_size: int,
        *,
        shuffle: bool = True,
        augment: bool = True,
        shard: tuple[int, int] = (0, 1),
        buckets: Mapping[str, Sequence[int]] | None = None,
        drop: float | dropout.Ramp | Mapping[str, float | dropout.Ramp] | None = None,
    ) -> tf.data.Dataset:
        """Returns full batches `(x, y)` of the training rows; see `Data.train`.

        It carries `steps` and `stream(first_step, shard)` in the same way. With `buckets` the rows
        of a pool are grouped by length: the larger the pool against the batch, the better; what
        is grouped is decoded twice.
        """
        batch_size, steps = steps_of(self.rows("train"), batch_size, shard)
        lengths = by_length.checked(buckets, self.modalities)
        load = loader(self.modalities, self.targets, augment)
        code = coder(self.modalities, lengths)
        without = dropout.in_training(drop, self.modalities)

        def loaded(batches: tf.data.Dataset, shard: tuple[int, int] = shard) -> tf.data.Dataset:
            def made(held: Any, seed: Any, step: Any) -> tuple:
                draws = Draws(seed, shard)
                return by_length.cut(lengths, without(load(held, draws), draws, step))

            return tuned_map(batches, made)

        def grouped(records: Any, before: Any, key: Any) -> Any:
            """Rows of a pool by length; `before` it the epoch has so many."""
            if not lengths:
                return records
            head = -before % batch_size
            return tf.gather(
                records, by_length.grouped(code(records), batch_size, key=key, head=head)
            )

        def epoch(
            number: Any, first: Any, shard: tuple[int, int], before: Any = 0
        ) -> tf.data.Dataset:
            """Records, seeds and global steps of the batches of an epoch, from a step of it on.

            `before` the epoch the training has so many steps.
            """
            records = self._epoch(number, first * batch_size, shuffle, grouped)
            batches = records.batch(batch_size, drop_remainder=True)
            size = batch_size // shard[1]

            def seeded(step: Any, held: Any) -> tuple[Any, Any, Any]:
                seed = tf.stack([number + step, self.seed + step])
                part = tf.ensure_shape(held[shard[0] * size : (shard[0] + 1) * size], [size])
                return part, tf.cast(seed, tf.uint32), before + step

            steps_left = tf.data.Dataset.range(first, steps)
            return tf.data.Dataset.zip(steps_left, batches).map(seeded)

        def stream(first_step: int = 0, shard: tuple[int, int] = shard) -> tf.data.Dataset:
            check_shard(shard, batch_size)
            start = checks.whole("first_step", first_step, 0)
            numbers = tf.data.Dataset.range(start // steps, tf.int64.max)

            def one(number: Any) -> tf.data.Dataset:
                resumed = tf.equal(number, start // steps)
                first = tf.where(resumed, tf.constant(start % steps, tf.int64), 0)
                return epoch(number, first, shard, number * steps)

            return loaded(numbers.flat_map(one), shard)

        zero = tf.constant(0, tf.int64)
        return training(
            self.seed,
            steps,
            epoch=lambda number: epoch(number, zero, shard),
            loaded=loaded,
            stream=stream,
            buckets=lengths,
        )

    def batches(
        self,
        split: str,
        batch_size: int,
        *,
        shard: tuple[int, int] = (0, 1),
        drop: float | Mapping[str, float] | None = None,
    ) -> tf.data.Dataset:
        """Returns every row of a split once and in order, in batches `(x, y)` of even size.

        Batches differ by at most one row, the larger ones first. Carries `part(shard)`, and takes
        `drop`, as `Data.batches` does.
        """
        count = self.rows(split)
        steps = -(-count // checks.whole("batch_size", batch_size))
        size, more = divmod(count, steps)
        files = [str(self.folder / about["file"]) for about in self.files[split]]
        load = loader(self.modalities, self.targets, augment=False)
        without = dropout.in_evaluation(drop, self.modalities, rows=count, seed=self.seed)

        def part(shard: tuple[int, int]) -> tf.data.Dataset:
            check_shard(shard)
            if size < shard[1]:
                raise ValueError(
                    f"Every reader needs a row of every batch. Received: batches of {size} rows "
                    f"of {split!r} for {shard[1]} readers. Choose a larger batch, or fewer readers."
                )
            records = tf.data.TFRecordDataset(files)
            large = records.take(more * (size + 1)).batch(size + 1)
            whole = large.concatenate(records.skip(more * (size + 1)).batch(size))

            def made(number: Any, held: Any) -> tuple:
                length = tf.shape(held)[0]
                first, last = (length * (shard[0] + end) // shard[1] for end in (0, 1))
                number = tf.cast(number, tf.int32)
                before = number * size + tf.minimum(number, more)
                return without(load(held[first:last], None), before + tf.range(first, last))

            whole = whole.apply(tf.data.experimental.assert_cardinality(steps))
            return tuned_map(whole.enumerate(), made)

        dataset = part(shard)
        dataset.part = part
        return dataset

    def _epoch(
        self, number: Any, first_row: Any, shuffle: bool, grouped: Callable
    ) -> tf.data.Dataset:
        """Records of an epoch in its order, from a row on.

        `grouped` (records, rows before, key) -> records is done to every pool after its shuffle.
        """
        held = self.files["train"]
        files = tf.constant([str(self.folder / about["file"]) for about in held])
        sizes = tf.constant([about["rows"] for about in held], tf.int64)
        order = tf.range(len(held))
        if shuffle:
            order = tf.random.experimental.stateless_shuffle(order, _key(number, self.seed))
        files, sizes = tf.gather(files, order), tf.gather(sizes, order)
        pools = -(-len(held) // self.pool_shards)
        starts = np.minimum(np.arange(pools + 1) * self.pool_shards, len(held))
        before = tf.concat([[0], tf.cumsum(sizes)], 0)
        edges = tf.gather(before, starts)  # rows before each pool, and all
        first = tf.reduce_sum(tf.cast(edges[1:] <= first_row, tf.int64))
        starts = tf.constant(starts, tf.int64)

        def read(pool: Any) -> tf.data.Dataset:
            mine = files[starts[pool] : starts[pool + 1]]
            count = edges[pool + 1] - edges[pool]
            return tf.data.TFRecordDataset(mine).batch(count)

        def mixed(pool: Any, records: Any) -> Any:
            key = None
            if shuffle:
                key = _key(number, self.seed + 1, pool)
                order = tf.range(tf.shape(records)[0])
                order = tf.random.experimental.stateless_shuffle(order, key)
                records = tf.gather(records, order)
            return grouped(records, edges[pool], key)

        chosen = tf.data.Dataset.range(first, tf.cast(pools, tf.int64))
        rows = tf.data.Dataset.zip(chosen, chosen.flat_map(read)).map(mixed).prefetch(1).unbatch()
        return rows.skip(first_row - tf.gather(edges, first))


def _key(number: Any, *more: Any) -> Any:
    """Seed of a shuffle, a function of the numbers."""
    return tf.stack([number, sum(tf.cast(m, tf.int64) * 1_000_003**i for i, m in enumerate(more))])


def _target(config: dict) -> Target:
    return TARGETS[config["kind"]](**{k: v for k, v in config.items() if k != "kind"})


def _check(path: Path, about: dict, verify: bool) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != about["bytes"] or verify and checksum(path) != about["sha256"]:
        raise ValueError(
            f"Every shard must be as {SCHEMA} says. Received: {path.name}, "
            f"{'missing' if size is None else 'changed'}. Remove {SCHEMA} and write the shards "
            "again into another folder, or copy the file anew."
        )
