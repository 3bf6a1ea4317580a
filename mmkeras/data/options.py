"""How every pipeline of mmkeras runs on tf.data."""

import os
from collections.abc import Callable

import tensorflow as tf


def tuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with a thread pool of its own and no needless copies.

    - A private pool of one thread per usable core, and ops that do not split further: pictures
      are decoded side by side, and do not queue behind the model's ops.
    - No default graph rewrites: they copy every tensor that a function captures, here all items
      that are held in memory or mapped from disk, once per iterator. What they would add
      (parallel maps, prefetching) the pipelines say themselves.
    - No autotuning: its thread wakes at ever longer intervals (10 ms, doubled up to a minute), and
      closing an iterator may wait for that, at worst as long as the whole `fit` took. Without it
      maps take every thread of the pool.
    - The order stays deterministic.
    """
    options = _options()
    options.threading.private_threadpool_size = len(os.sched_getaffinity(0))
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)


def untouched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset as `tuned`, but on the threads of whoever runs it: for a request."""
    return dataset.with_options(_options())


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options


def tuned_map(dataset: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    """Returns the tuned dataset of what `function` makes of every element, two of them ahead."""
    return tuned(dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2))
