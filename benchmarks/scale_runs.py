"""What the benchmark `scale` measures, each in processes of its own.

`python -m benchmarks.scale_runs KIND STEPS OUT`, started by `mmkeras.launch`, trains model A with
64 rows per worker and writes samples/s of the job and CPU seconds per sample to OUT. KIND: "ours"
(gradients summed over the workers), "ours_alone" (no talk) or "torch" (DDP over gloo).
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.common import need, steady

HELD = 4
BATCHES = 64
"""Read per measurement: many more than the service holds ready at its start."""


def task() -> tuple[int, list[str]]:
    """Returns this worker's number and all addresses, from TF_CONFIG."""
    config = json.loads(os.environ["TF_CONFIG"])
    return config["task"]["index"], config["cluster"]["worker"]


def endless(steps: int, replicas: int = 1) -> Any:
    """Returns data in memory that every reader gets whole: 64 rows for each, whatever the shard."""
    import tensorflow as tf

    from mmkeras.data.options import tuned

    held = models.late_fusion_batches(HELD)
    stacked = tf.nest.map_structure(lambda *leaves: tf.stack(leaves), *held)
    own = tuned(tf.data.Dataset.from_tensor_slices(stacked).repeat().prefetch(2))
    dataset = own.unbatch().batch(models.BATCH * replicas, drop_remainder=True)
    dataset.steps, dataset.stream = steps, lambda first_step=0, shard=(0, 1): own
    return dataset


def measured(epoch: Callable, steps: int, workers: int) -> tuple[float, float]:
    """Returns samples/s of all workers and CPU seconds per sample of this one."""
    start, cpu = time.perf_counter(), time.process_time()
    epoch()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return workers * models.BATCH * steps / seconds, cpu / (models.BATCH * steps)


def ours(steps: int, alone: bool = False) -> tuple[float, float]:
    """Trains with mmkeras; returns what `measured` does."""
    import mmkeras as mk

    _, addresses = task()
    if alone:
        del os.environ["TF_CONFIG"]
    strategy = mk.training.strategy("auto")
    with strategy.scope():
        model = models.late_fusion(mk.Model)
        model.compile("adamw", models.late_fusion_loss(), jit=False)
    data = endless(steps, 1 if alone else len(addresses))
    model.fit(data, epochs=1, verbose=0)
    return measured(lambda: model.fit(data, epochs=1, verbose=0), steps, len(addresses))


def torch_ddp(steps: int) -> tuple[float, float]:
    """As `ours` with PyTorch's DistributedDataParallel over gloo."""
    torch = need("torch")
    from benchmarks import torch_models

    number, addresses = task()
    torch.set_num_threads(1)
    host, port = addresses[0].split(":")
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://{host}:{port}", rank=number, world_size=len(addresses)
    )
    model = torch_models.LateFusion().to(memory_format=torch.channels_last)
    model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batches = torch_models.batches(models.late_fusion_batches(HELD), channels_last=True)

    def epoch() -> None:
        for step in range(steps):
            optimizer.zero_grad(set_to_none=True)
            model(batches[step % HELD]).backward()
            optimizer.step()

    epoch()
    found = measured(epoch, steps, len(addresses))
    torch.distributed.destroy_process_group()
    return found


def replicas(count: int, steps: int) -> Callable[[], float]:
    """Returns what measures the seconds of a step of 64 rows on so many logical devices."""
    import mmkeras as mk

    strategy = mk.training.strategy(f"cpu:{count}")
    with strategy.scope():
        model = models.late_fusion(mk.Model)
        model.compile("adamw", models.late_fusion_loss(), jit=False)
    data = endless(steps)
    model.fit(data, epochs=1, verbose=0)

    def work() -> float:
        start = time.perf_counter()
        model.fit(data, epochs=1, verbose=0)
        return (time.perf_counter() - start) / steps

    return work


def reading(folder: str, batch: int, workers: int) -> Callable[[], float]:
    """Returns what measures samples/s of the pipeline of P1, in process or through a service."""
    import mmkeras as mk
    from benchmarks.input_ours import CROP, captions
    from mmkeras.processes import free_ports

    image = mk.Image(size=224, augment={"random_resized_crop": CROP})
    table = mk.data.table(
        Path(folder) / "pairs.csv", {"picture": image, "caption": captions(folder)}
    )
    dataset = table.train(batch)
    read = dataset.stream
    if workers:
        port = free_ports(1)[0]
        command = ("-m", "mmkeras.data_service", "--workers", str(workers), "--port", str(port))
        service = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
        ended_with_parent(service)
        read = mk.data.distribute(dataset, f"grpc://localhost:{port}", wait_seconds=120).stream

    def work() -> float:
        return steady(read().take(BATCHES), BATCHES, lambda b: len(b[0]["caption"]))

    work()
    return work


def ended_with_parent(process: subprocess.Popen) -> None:
    """Ends a process when this one ends."""

    def end() -> None:
        process.send_signal(signal.SIGTERM)
        process.wait(30)

    atexit.register(end)


def main(kind: str, steps: str, out: str) -> None:
    """One worker of a job, on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    number = task()[0]
    os.sched_setaffinity(0, {cores[number % len(cores)]})
    made = {
        "ours": ours,
        "ours_alone": lambda steps: ours(steps, alone=True),
        "torch": torch_ddp,
    }[kind](int(steps))
    if number == 0:
        Path(out).write_text(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
