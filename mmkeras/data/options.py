"""How every pipeline of mmkeras runs on tf.data."""

import os

import tensorflow as tf


def tuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with a thread pool of its own and no needless copies.

    - A private pool of one thread per usable core, and ops that do not split further: pictures
      are decoded side by side, and do not queue behind the model's ops.
    - No default graph rewrites: they copy every tensor that a function captures, here all items
      that are held in memory or mapped from disk, once per iterator. What they would add
      (parallel maps, prefetching) the pipelines say themselves.
    - The order stays deterministic.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = len(os.sched_getaffinity(0))
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options)
