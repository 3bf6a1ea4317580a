"""Starts a training script on several workers: `python -m mmkeras.launch --workers 2 script.py`.

On one machine it starts the workers itself, each with its TF_CONFIG and free ports, labels their
output, and ends all when one fails: synchronous workers cannot go on alone. `--restarts N` then
starts all of them again on the same ports, which is the model of recovery: the script takes up
its newest checkpoint. Under srun, torchrun or in a Kubernetes Indexed Job the same command is
started once per rank by the scheduler; it sets TF_CONFIG, where that is not set already, and
becomes the script.

    python -m mmkeras.launch --workers 2 --restarts 3 train.py --epochs 5
    srun --nodes 2 --ntasks-per-node 1 python -m mmkeras.launch train.py --epochs 5
    python -m mmkeras.launch --hosts train-0.train,train-1.train train.py   # Indexed Job
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmkeras import processes
from mmkeras.cluster import make, tf_config


def run(
    command: Sequence[str], workers: int, *, restarts: int = 0, grace_seconds: float = 30.0
) -> int:
    """Runs a command in several worker processes on this machine and waits for them.

    Args:
        command: program and arguments, the same for all.
        workers: number of processes.
        restarts: how often all are started again after one has failed.
        grace_seconds: between SIGTERM and SIGKILL, when one has failed or a signal has come.

    Returns:
        0, or the exit code of the first that failed (128 + n when signal n ended it).
    """
    addresses = [f"localhost:{port}" for port in processes.free_ports(workers)]
    devices = gpu_shares(os.environ, workers)
    environs = [
        {"TF_CONFIG": json.dumps(make(addresses, i)), **shown} for i, shown in enumerate(devices)
    ]
    for attempt in range(restarts + 1):
        if attempt:
            processes.say("launch", f"restart {attempt} of {restarts}")
        code, signalled = _once(command, environs, grace_seconds)
        if not code or signalled:
            break
    return code


def _once(command: Sequence[str], environs: Sequence[Mapping], grace_seconds: float) -> tuple:
    children: list = []
    with processes.forward_signals(children) as received:
        for number, environ in enumerate(environs):
            children.append(processes.Child(command, str(number), environ))
        try:
            code = _first_failure(children, received)
            if code and not received:
                label = next(c.label for c in children if c.code)
                processes.say("launch", f"worker {label} ended with {code}: ending all")
            if received:
                processes.wait(children, grace_seconds)
                code = code or next((c.code for c in children if c.code), 0)
                code = code or (128 + received[0] if any(c.code is None for c in children) else 0)
        finally:
            processes.end(children, 0 if received else grace_seconds)
    return code, bool(received)


def _first_failure(children: Sequence, received: list) -> int:
    """Waits until one has failed, all have ended or a signal has come."""
    while not received:
        codes = [child.code for child in children]
        if any(codes) or None not in codes:
            return next((code for code in codes if code), 0)
        time.sleep(processes.POLL_SECONDS)
    return 0


def gpu_shares(environ: Mapping[str, str], workers: int) -> list[dict[str, str]]:
    """Returns CUDA_VISIBLE_DEVICES per worker: equal shares, as no two may use the same GPU.

    Raises:
        ValueError: the GPUs cannot be shared out evenly.
    """
    shown = environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*"))
        gpus = sorted((match[1] for match in found if match), key=int)
    else:
        gpus = [gpu for gpu in shown.split(",") if gpu.strip() not in ("", "-1")]
    if not gpus:
        return [{} for _ in range(workers)]
    share, rest = divmod(len(gpus), workers)
    if rest or not share:
        raise ValueError(
            f"{workers} workers must share the GPUs evenly. Received: {len(gpus)} GPUs. Choose "
            "--workers accordingly, or name the GPUs in CUDA_VISIBLE_DEVICES (empty: CPU)."
        )
    parts = [gpus[i * share : (i + 1) * share] for i in range(workers)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(part)} for part in parts]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("python -m mmkeras.launch", description=__doc__.splitlines()[0])
    made.add_argument("--workers", type=int, help="processes to start on this machine")
    made.add_argument("--restarts", type=int, default=0, help="how often to start all again")
    made.add_argument("--grace", type=float, default=30.0, help="seconds from SIGTERM to SIGKILL")
    made.add_argument("--hosts", default="", help="all machines in rank order, with commas")
    made.add_argument("--port", type=int, help="first port on every machine, with a scheduler")
    made.add_argument("-m", dest="module", action="store_true", help="`script` is a module's name")
    made.add_argument("script")
    made.add_argument("arguments", nargs=argparse.REMAINDER)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    asked = parser().parse_args(arguments)
    command = processes.python(*(["-m"] if asked.module else []), asked.script, *asked.arguments)
    hosts = [host for host in asked.hosts.split(",") if host]
    given = os.environ.get("TF_CONFIG")  # a TFJob and its kin set it themselves
    config = json.loads(given) if given else tf_config(os.environ, hosts=hosts, port=asked.port)
    if config is None:
        if asked.workers is None or asked.workers < 1 or asked.restarts < 0:
            raise ValueError(
                "`--workers` must be at least 1 and `--restarts` at least 0 where no scheduler "
                f"starts the ranks. Received: {asked.workers} and {asked.restarts}."
            )
        return run(
            command, asked.workers, restarts=asked.restarts, grace_seconds=max(asked.grace, 0.0)
        )
    count = sum(map(len, config["cluster"].values()))
    if asked.restarts or asked.workers not in (None, count):
        raise ValueError(
            f"A scheduler has started {count} ranks, and it restarts them (srun --requeue, a Job's "
            f"backoffLimit). Received: --workers {asked.workers} --restarts {asked.restarts}. "
            "Leave both out."
        )
    os.environ["TF_CONFIG"] = json.dumps(config)
    sys.stdout.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"mmkeras.launch: {error}")
