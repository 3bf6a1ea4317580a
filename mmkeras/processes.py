"""Child processes with labelled output, for `mmkeras.launch` and `mmkeras.data_service`.

Imports neither TensorFlow nor Keras: whoever supervises processes must start fast and stay small.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

_PRINTING = threading.Lock()
POLL_SECONDS = 0.1


class Child(subprocess.Popen):
    """A process whose output, stderr included, appears here line by line as `[label] ...`.

    It leads a session of its own, so that a Ctrl-C in the terminal reaches it only through
    `forward_signals`, and `end` reaches what it has started itself.

    Args:
        command: program and arguments.
        label: what its lines begin with.
        environ: variables beside those of this process.
    """

    def __init__(
        self, command: Sequence[str], label: str, environ: Mapping[str, str] | None = None
    ) -> None:
        """Starts it."""
        super().__init__(
            list(command),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.label = label
        self._printer = threading.Thread(target=self._print, daemon=True)
        self._printer.start()

    def _print(self) -> None:
        for line in self.stdout:
            say(self.label, line.decode(errors="replace").rstrip("\n"))

    @property
    def code(self) -> int | None:
        """Exit code as a shell gives it (128 + signal when killed); None while it runs."""
        code = self.poll()
        return 128 - code if code is not None and code < 0 else code

    def tell(self, number: int) -> None:
        """Sends a signal to the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def say(label: str, line: str) -> None:
    """Prints one whole line, whatever other threads print."""
    with _PRINTING:
        print(f"[{label}] {line}", flush=True)


def end(children: Iterable[Child], grace_seconds: float) -> None:
    """Ends processes: SIGTERM, and SIGKILL for those that are still there after the grace."""
    children = list(children)
    for child in children:
        if child.poll() is None:
            child.tell(signal.SIGTERM)
    wait(children, grace_seconds)
    for child in children:
        # Also when it has ended itself: what it started may still hold its ports.
        child.tell(signal.SIGKILL)
        child.wait()
        child._printer.join(timeout=2)


def wait(children: Iterable[Child], seconds: float) -> None:
    """Returns when all have ended, or after so many seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and any(child.poll() is None for child in children):
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def forward_signals(children: Iterable[Child]) -> Iterator[list[int]]:
    """Passes SIGTERM and SIGINT on to the processes; yields the list of those that have come."""
    received: list[int] = []

    def forward(number: int, frame: object) -> None:
        received.append(number)
        for child in list(children):
            if child.poll() is None:
                child.tell(number)

    earlier = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens to on this machine (all at once, so they differ)."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def python(*arguments: str) -> list[str]:
    """Returns the command that runs this Python with arguments."""
    return [sys.executable, *arguments]
