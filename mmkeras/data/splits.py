"""What the data classes share: checks of batches, the passes of training, valid and test."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from mmkeras.core import Target, checks


class Splits:
    """Base of what has `targets`, and `batches(split, batch_size)`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the only target that has any."""
        return only_classes(self.targets)

    def valid(self, batch_size: int, **kwargs: Any) -> tf.data.Dataset:
        """Returns every validation row once; see `batches`."""
        return self.batches("valid", batch_size, **kwargs)

    def test(self, batch_size: int, **kwargs: Any) -> tf.data.Dataset:
        """Returns every test row once; see `batches`."""
        return self.batches("test", batch_size, **kwargs)


def only_classes(targets: Mapping[str, Target]) -> tuple[str, ...]:
    """Returns the classes of the only target that has any."""
    found = [t.classes for t in targets.values() if getattr(t, "classes", None)]
    if len(found) != 1:
        raise ValueError(
            f"`data.classes` needs exactly one target with classes. Received: {len(found)}. "
            "Use data.targets['name'].classes."
        )
    return found[0]


def check_shard(shard: tuple[int, int], batch_size: int | None = None) -> None:
    """Raises unless `shard` is (i, n) with 0 <= i < n and n divides the batch."""
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"`shard` must be (i, n) with 0 <= i < n. Received: {shard}.")
    if batch_size is not None and batch_size % count:
        raise ValueError(
            f"The global batch must divide evenly over {count} readers. Received: "
            f"batch_size={batch_size}. Choose a multiple of {count}."
        )


def steps_of(rows: int, batch_size: int, shard: tuple[int, int]) -> tuple[int, int]:
    """Returns the checked batch size, and how many full batches there are in `rows`."""
    batch_size = checks.whole("batch_size", batch_size)
    check_shard(shard, batch_size)
    if batch_size > rows:
        raise ValueError(
            "`batch_size` must not exceed the number of training rows. Received: "
            f"batch_size={batch_size}, rows={rows}. Choose a smaller batch."
        )
    return batch_size, rows // batch_size


def training(
    seed: int,
    steps: int,
    *,
    epoch: Callable,
    loaded: Callable,
    stream: Callable,
    buckets: Mapping[str, tuple[int, ...]],
) -> tf.data.Dataset:
    """Returns what `train` does: each pass an epoch, with `steps`, `stream` and `buckets`.

    Args:
        seed: of the epochs' numbers.
        steps: per epoch.
        epoch: number of an epoch -> dataset of its batches, not yet loaded.
        loaded: dataset of batches -> dataset of `(x, y)`.
        stream: `(first_step, shard)` -> dataset.
        buckets: see `Data.train`.
    """
    batches = epoch_number(seed).flat_map(epoch)
    dataset = loaded(batches.apply(tf.data.experimental.assert_cardinality(steps)))
    dataset.steps, dataset.stream, dataset.buckets = steps, stream, buckets
    return dataset


def epoch_number(seed: int) -> tf.data.Dataset:
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
