"""Starts a tf.data service: `python -m mmkeras.data_service --workers 2 --port 5050`.

One dispatcher and some workers, each a process, supervised: what dies is started again on the same
port, with which the consumers go on. `mk.data.distribute(dataset, "grpc://localhost:5050")` reads
through it. Workers on other machines, each under a supervisor of its own:

    python -m mmkeras.data_service --workers 4 --dispatcher grpc://first:5050 --host second
"""

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence

from mmkeras import processes

RESTART_SECONDS = 1.0


def serve(commands: dict[str, Sequence[str]], *, grace_seconds: float = 5.0) -> int:
    """Runs processes and starts again each that ends, until SIGTERM or SIGINT; returns 0.

    Args:
        commands: label -> program and arguments.
        grace_seconds: between SIGTERM and SIGKILL at the end.
    """
    children: list = []
    with processes.forward_signals(children) as received:
        children += [processes.Child(command, label) for label, command in commands.items()]
        started = [time.monotonic()] * len(children)
        try:
            while not received:
                time.sleep(processes.POLL_SECONDS)
                for i, child in enumerate(children):
                    if child.code is None or time.monotonic() < started[i] + RESTART_SECONDS:
                        continue
                    processes.say("service", f"{child.label} ended with {child.code}: again")
                    children[i] = processes.Child(commands[child.label], child.label)
                    started[i] = time.monotonic()
        finally:
            processes.end(children, grace_seconds)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        "python -m mmkeras.data_service", description=__doc__.splitlines()[0]
    )
    made.add_argument("--workers", type=int, default=1, help="worker processes on this machine")
    made.add_argument("--port", type=int, default=5050, help="of the dispatcher")
    made.add_argument("--dispatcher", help="grpc://host:port of one that runs elsewhere")
    made.add_argument("--host", default="localhost", help="this machine's name for the consumers")
    made.add_argument("--work-dir", help="folder of the dispatcher's journal (default: temporary)")
    made.add_argument("--role", choices=("dispatcher", "worker"), help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    asked = parser().parse_args(arguments)
    if asked.role:
        service = importlib.import_module("mmkeras.data.service")
        if asked.role == "dispatcher":
            server = service.dispatcher(asked.port, asked.work_dir)
        else:
            server = service.worker(asked.port, asked.dispatcher, asked.host)
        print("ready", flush=True)
        server.join()
        return 0
    address = asked.dispatcher or f"grpc://{asked.host}:{asked.port}"
    own = processes.python("-m", "mmkeras.data_service")
    commands = {}
    with tempfile.TemporaryDirectory() as folder:
        if not asked.dispatcher:
            place = ["--port", str(asked.port), "--work-dir", asked.work_dir or folder]
            commands["dispatcher"] = [*own, "--role", "dispatcher", *place]
        for i, port in enumerate(processes.free_ports(asked.workers)):
            place = ["--port", str(port), "--dispatcher", address, "--host", asked.host]
            commands[f"worker {i}"] = [*own, "--role", "worker", *place]
        processes.say("service", address)
        return serve(commands)


if __name__ == "__main__":
    raise SystemExit(main())
