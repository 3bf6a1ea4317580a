"""tf.data service: other processes, here or elsewhere, read and decode what `fit` trains on.

`python -m mmkeras.data_service --workers 2 --port 5050` starts a dispatcher and two workers; a
training set is then read through them with one call:

    train = mk.data.distribute(data.train(batch_size=64), "grpc://localhost:5050")
    model.fit(train, ...)

It is a helper for throughput. Every batch is made by one worker and arrives at most once: order is
not kept, and a worker that dies takes the few batches with it that it was making; the others, and
the worker once it is started again, go on. A run that reads through the service cannot be resumed
bit by bit. (Source: TensorFlow's documentation of `tf.data.experimental.service`.)
"""

import importlib
import os
import socket
import time
from pathlib import Path

import tensorflow as tf

from mmkeras.core import checks

LIMIT_BYTES = 2**31 - 2**20
"""What a message of the service, which carries the pipeline with its constants, can hold."""


def distribute(
    dataset: tf.data.Dataset,
    service: str,
    *,
    compression: str | None = "AUTO",
    wait_seconds: float = 30.0,
) -> tf.data.Dataset:
    """Returns a dataset whose batches are made by the workers of a data service.

    The result is endless, and carries `steps`, `stream` and `buckets` as `data.train(...)` does, so
    that `mmkeras.Model.fit` knows where an epoch ends. Use it for training: what an evaluation or a
    prediction must see once and in order is better read in process.

    The batches of `data.train(...)` are the same as in process. Of any other dataset the elements
    of its source are dealt out one by one: where these are rows, every row still comes once per
    round, but a worker batches those that it got, and may end its round with a smaller batch.

    Args:
        dataset: of `data.train(...)`, or any other of batches and of known cardinality, without
            Python functions. Files that it names must be readable for the workers. What is done
            after `distribute` is done in this process.
        service: address of the dispatcher, "grpc://host:port".
        compression: "AUTO", "SNAPPY" or None for what travels.
        wait_seconds: how long the dispatcher may take to start.

    Raises:
        ValueError: the address is wrong, the number of batches unknown, or the pipeline, with the
            items that it holds, does not fit into one message (2 GB).
        ConnectionError: nobody listens at the address.
    """
    if not service.startswith("grpc://") or not service.rpartition(":")[2].isdigit():
        raise ValueError(
            f"A data service's address must look like 'grpc://host:port'. Received: {service!r}. "
            "`python -m mmkeras.data_service` prints it."
        )
    if hasattr(dataset, "stream"):
        steps, stream = dataset.steps, dataset.stream
    else:
        steps = int(dataset.cardinality())
        if steps < 1:
            raise ValueError(
                "The number of batches must be known. Received: cardinality "
                f"{steps} (-1: endless, -2: unknown). Apply "
                "tf.data.experimental.assert_cardinality(n) to the dataset."
            )

        def stream(first_step: int = 0, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
            if shard != (0, 1):
                raise ValueError(
                    "Several readers can share only a dataset of mk.data. Received: "
                    f"shard={shard} of another dataset. Build it with mk.data.table(...)."
                )
            return dataset.repeat().skip(first_step % steps)

    def served(first_step: int = 0, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        source = stream(first_step, shard)
        _check_size(source)
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        return source.apply(
            tf.data.experimental.service.distribute(
                tf.data.experimental.service.ShardingPolicy.DYNAMIC,
                service,
                compression=compression,
            )
        ).with_options(options)

    _wait_for(service, wait_seconds)
    result = served()
    result.steps, result.stream = steps, served
    result.buckets = getattr(dataset, "buckets", {})
    return result


def _check_size(dataset: tf.data.Dataset) -> None:
    """Raises where the pipeline with all its constants is too large to be sent."""
    try:
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset), strip_device_assignment=True
        )
        size = int(tf.strings.length(graph))
    except tf.errors.OpError as error:
        raise ValueError(
            f"The data service cannot take this pipeline: {error.message}. Build it from ops that "
            "can be saved in a graph."
        ) from error
    if not 0 < size < LIMIT_BYTES:  # 0: it cannot be serialised, for being larger than 2 GiB
        found = f"{size / 2**20:.3g} MiB" if size else "over 2 GiB"
        raise ValueError(
            f"A pipeline for the data service must stay below {LIMIT_BYTES / 2**20:.4g} MiB, with "
            f"the items that it holds. Received: {found}. Give paths of files that the workers can "
            "read instead of contents, and leave out `cache()`."
        )


def _wait_for(service: str, seconds: float) -> None:
    """Returns when a dispatcher listens; TensorFlow itself would wait for hours without a word."""
    host, _, port = service.removeprefix("grpc://").rpartition(":")
    limit = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > limit:
                raise ConnectionError(
                    f"No data service answers at {service!r} ({error}). Start one with `python -m "
                    f"mmkeras.data_service --workers 2 --port {port}`, or correct the address."
                ) from error
            time.sleep(0.2)


def _text_ops() -> None:
    """Registers the ops of tensorflow_text, which dispatcher and worker find in pipelines."""
    importlib.import_module("tensorflow_text")


def dispatcher(
    port: int, work_dir: str | os.PathLike
) -> tf.data.experimental.service.DispatchServer:
    """Starts a dispatcher in this process; with the same folder and port it goes on after a stop.

    Args:
        port: to listen on.
        work_dir: folder of its journal.
    """
    _text_ops()
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    return tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(
            port=checks.whole("port", port),
            work_dir=str(work_dir),
            fault_tolerant_mode=True,
        )
    )


def worker(
    port: int, service: str, host: str = "localhost"
) -> tf.data.experimental.service.WorkerServer:
    """Starts a worker in this process.

    Args:
        port: to listen on; a worker that takes the place of a dead one needs the same.
        service: address of the dispatcher, "grpc://host:port".
        host: name under which the consumers reach this machine.
    """
    _text_ops()
    return tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(
            dispatcher_address=service.removeprefix("grpc://"),
            worker_address=f"{host}:{checks.whole('port', port)}",
            port=port,
            heartbeat_interval_ms=1000,
        )
    )
