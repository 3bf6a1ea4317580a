"""Several worker processes: which of them this is, its strategy, and its part of the data.

TF_CONFIG names the workers (`mmkeras.launch` sets it). Training is synchronous: every worker runs
the same script, reads its part of every global batch, and gradients are summed over all, so that
the numbers are those of one process. Worker 0 (or the task "chief") is the chief, and the only
one that may write logs, checkpoints and exports.

Keras 3's own `fit` fails under MultiWorkerMirroredStrategy (it reduces scalar logs along axis 0,
and its symbolic build reads per-replica values); `mmkeras.Model` replaces both.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf


def is_chief() -> bool:
    """Whether this process may write: the chief of TF_CONFIG; always True without TF_CONFIG."""
    cluster, task = _config()
    return not cluster or task["type"] == "chief" or ("chief" not in cluster and not task["index"])


def several() -> bool:
    """Whether TF_CONFIG names more than one process."""
    return sum(map(len, _config()[0].values())) > 1


def strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Returns the strategy of TF_CONFIG's workers; blocks until all of them have started.

    A worker that dies takes the others down: within about ten seconds their next step raises
    `tf.errors.UnavailableError` (or they end at once when the chief, who counts the heartbeats,
    is the one). There is no recovery within a process: start all again, with
    `mmkeras.launch --restarts` or the scheduler, and go on from the newest checkpoint.

    Raises:
        ValueError: TF_CONFIG is missing or wrong.
        RuntimeError: TensorFlow has been used before.
    """
    if not several():
        raise ValueError(
            "'workers' needs a TF_CONFIG that names several processes. Received: "
            f"{os.environ.get('TF_CONFIG')!r}. Start the script with "
            "`python -m mmkeras.launch --workers 2 script.py`."
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise RuntimeError(
            "'workers' must be asked for before TensorFlow is used. Call "
            "mk.training.strategy(...) first thing in the script."
        ) from error


def share(
    strategy: tf.distribute.Strategy,
    dataset: Any,
    steps: int | None = None,
    first_step: int = 0,
    change: Callable | None = None,
) -> tuple:
    """Returns the dataset that this worker reads, and the steps of one pass over it.

    Of a dataset of `mk.data` every worker reads and decodes only its rows of every global batch.
    Any other dataset is read whole by every worker, which keeps its part.

    Args:
        strategy: the model's.
        dataset: from `data.train`, `data.valid`, ..., or any `tf.data.Dataset`; what is none is
            returned as it is.
        steps: of one pass, where the caller knows better than the dataset.
        first_step: global step to begin at; of a dataset with a `stream` only.
        change: dataset -> dataset, of what is read.
    """
    if not isinstance(dataset, tf.data.Dataset):
        return dataset, steps
    change = change or (lambda part: part)
    several = spans(strategy)
    if hasattr(dataset, "stream"):
        steps = steps or dataset.steps
        if not several:
            return change(dataset.stream(first_step)), steps
        return _distributed(strategy, lambda s: change(dataset.stream(first_step, s))), steps
    if several and hasattr(dataset, "part"):
        steps = steps or len(dataset)
        return _distributed(strategy, lambda s: change(dataset.part(s).repeat())), steps
    if several:
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        dataset = dataset.with_options(options)
    return change(dataset), steps


def _distributed(strategy: tf.distribute.Strategy, part: Callable) -> Any:
    """Returns endless data of which every replica of this worker gets its part."""

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync
        local = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local
        parts = [part((first + i, replicas)) for i in range(local)]
        turns = tf.data.Dataset.range(local).repeat()
        parts = tf.data.Dataset.choose_from_datasets(parts, turns) if local > 1 else parts[0]
        # Known to be endless, TensorFlow need not ask all workers at every step who is at an end.
        return parts.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(of_worker)


def agree(strategy: tf.distribute.Strategy, numbers: list[int]) -> int | None:
    """Returns the largest number that all workers name, None where there is none.

    All must call it, each with as many numbers; it also makes each wait for all.
    """
    if not spans(strategy):
        return max(numbers, default=None)

    @tf.function
    def mine() -> Any:
        return strategy.run(tf.constant, ([numbers], tf.int64))

    rows = strategy.gather(mine(), axis=0).numpy()
    common = set.intersection(*(set(row.tolist()) for row in rows))
    return max(common, default=None)


def own(folder: Path) -> Path:
    """Returns the folder of this worker: the given one for the chief, one in it for others."""
    if is_chief():
        return folder
    return folder / f"{_config()[1]['type']}-{_config()[1]['index']}"


def spans(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy is one of several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and several()


def _config() -> tuple[dict, dict]:
    """Returns cluster and task of TF_CONFIG, both empty without one, or raises ValueError."""
    text = os.environ.get("TF_CONFIG", "")
    if not text or text == "{}":
        return {}, {}
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        addresses = [address for job in cluster.values() for address in job]
        right = (
            set(cluster) <= {"chief", "worker"}
            and task["type"] in cluster
            and 0 <= task["index"] < len(cluster[task["type"]])
            and all(isinstance(address, str) and ":" in address for address in addresses)
            and len(set(addresses)) == len(addresses)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    if not right:
        raise ValueError(
            'TF_CONFIG must look like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            '"worker", "index": 0}}, with different addresses, jobs "worker" and perhaps "chief", '
            f"and an index in range. Received: {text!r}. Let `python -m mmkeras.launch` set it."
        )
    return cluster, task
