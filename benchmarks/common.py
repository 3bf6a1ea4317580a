"""What every benchmark shares: contenders, alternating rounds, rows, `result.json`, the table.

A contender runs in a process of its own, pinned to some cores and set up once, so that two
frameworks share neither threads nor allocators. In every round each contender is measured once
(A, B, A, B, ...); a row gives the medians and the median, smallest and largest ratio of the rounds.
A ratio above 1 always means that mmkeras is better. `benchmarks/input.py` shows the use.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "numpy", "torch", "tokenizers", "simplejpeg", "librosa")


def arguments(doc: str, argv: list[str] | None = None) -> argparse.Namespace:
    """Parses the interface of every benchmark: --out, --quick, --rounds, --only."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for result.json")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--rounds", type=int, help="of each comparison (default 3; quick 1)")
    parser.add_argument("--only", default="", help="rows with this text in their name")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def need(module: str) -> Any:
    """Imports what a peer needs, or raises an ImportError that names the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This peer needs {module!r}: pip install 'mmkeras[bench]' (PyTorch's CPU build)."
        ) from error


class Contender:
    """A measurable function in a process of its own; a context manager.

    Args:
        function: "package.module:name". Called once in the new process with `arguments`, it sets
            everything up, warms up, and returns a callable without arguments that does the work
            once and returns the measured number (samples/s, seconds, MB, ...).
        cores: number of cores the process is pinned to; all when None.
        env: further environment variables.
        **arguments: JSON-able arguments of the function.

    Attributes:
        missing: why it cannot run (an ImportError of its set-up), or None.
    """

    def __init__(
        self,
        function: str,
        *,
        cores: int | None = None,
        env: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> None:
        """Keeps the arguments; `with` starts the process."""
        self.job = {"function": function, "cores": cores, "arguments": arguments}
        self.env, self.missing = {**os.environ, **(env or {})}, None

    def __enter__(self) -> "Contender":
        """Starts the process and waits until it is set up."""
        root = str(Path(__file__).parents[1])
        self.env["PYTHONPATH"] = os.pathsep.join([root, self.env.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "benchmarks.common", json.dumps(self.job)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env, text=True
        )
        self.missing = self._answer().get("missing")
        return self

    def measure(self) -> dict[str, float]:
        """Does the work once: {"value", "cpu_seconds"} (its workers included)."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"The contender {self.job['function']} ended with code {self.process.wait()} "
                "before it answered; its error stands above."
            )
        return json.loads(line)

    def __exit__(self, *error: Any) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def compare(
    ours: Contender,
    peers: Mapping[str, tuple[Contender, float]],
    *,
    unit: str,
    rounds: int = 3,
    lower_is_better: bool = False,
) -> list[dict]:
    """Measures all contenders in turn, `rounds` times, and returns one row per peer.

    Args:
        ours: mmkeras.
        peers: name of the row -> (contender, ratio that is to be reached).
        unit: of the measured numbers.
        rounds: how often each is measured.
        lower_is_better: for times and sizes; the ratio is then peer / ours.
    """
    everyone = {"ours": ours, **{name: contender for name, (contender, _) in peers.items()}}
    measured: dict[str, list[dict]] = {name: [] for name in everyone}
    with contextlib.ExitStack() as stack:
        for contender in everyone.values():
            stack.enter_context(contender)
        if ours.missing:
            raise ImportError(ours.missing)
        for _ in range(rounds):
            for name, contender in everyone.items():
                if not contender.missing:
                    measured[name].append(contender.measure())
    held = {name: [m["value"] for m in values] for name, values in measured.items()}
    cpu = {name: [m["cpu_seconds"] for m in values] for name, values in measured.items()}
    rows = []
    for name, (contender, target) in peers.items():
        made = row(name, held["ours"], held[name], unit, target, lower_is_better)
        made["ours_cpu_seconds"] = statistics.median(cpu["ours"])
        if contender.missing:
            made["note"] = contender.missing
        else:
            made["peer_cpu_seconds"] = statistics.median(cpu[name])
        rows.append(made)
    return rows


def row(
    name: str,
    ours: list[float],
    peer: list[float],
    unit: str,
    target: float | None,
    lower_is_better: bool = False,
) -> dict:
    """Returns one row: medians over the rounds; an empty `peer` was not measured."""
    ratios = [p / o if lower_is_better else o / p for o, p in zip(ours, peer, strict=False)]
    return {
        "row": name,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer) if peer else None,
        "ratio": statistics.median(ratios) if ratios else None,
        "min": min(ratios, default=None),
        "max": max(ratios, default=None),
        "unit": unit,
        "target": target,
        "rounds": len(ratios),
    }


class Results:
    """The rows of a benchmark; `save` writes `result.json` and prints the table.

    Args:
        name: of the benchmark.
        args: what `arguments` returned.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        """Notes time and load."""
        self.name, self.out, self.rows = name, args.out, []
        self.start, self.load_before = time.time(), os.getloadavg()[0]
        if self.load_before > 0.5:
            print(f"The machine is not quiet (load {self.load_before:.2f}): ratios are unreliable.")

    def add(self, *rows: dict) -> None:
        """Adds rows and prints them."""
        for new in rows:
            print(_line(new), flush=True)
        self.rows += rows

    def save(self) -> dict:
        """Writes `result.json`, prints the table as markdown, and returns the result."""
        from experiments.result import about, write  # TensorFlow; not beside every contender

        if not self.rows:
            raise ValueError("No row has the text of --only in its name. Leave it out to see all.")
        result = {
            "name": self.name,
            "command": " ".join([f"python -m benchmarks.{self.name}", *sys.argv[1:]]),
            **about(*PACKAGES),
            "seconds": round(time.time() - self.start, 1),
            "load_before": self.load_before,
            "load_after": os.getloadavg()[0],
            "rows": self.rows,
        }
        write(self.out / "result.json", result)
        print(markdown(result))
        return result


def markdown(result: dict) -> str:
    """Returns a result as a table for RESULTS.md; rows that miss their target stay in."""
    head = [
        f"`{result['command']}`, commit {result['commit']}, load {result['load_before']:.2f} "
        f"before, {result['load_after']:.2f} after.",
        "",
        "| row | mmkeras | peer | unit | ratio [min, max] | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(head + [_line(entry) for entry in result["rows"]])


def _line(entry: dict) -> str:
    ratio, target = entry["ratio"], entry["target"]
    shown = "not measured" if ratio is None else f"{ratio:.2f} [{entry['min']:.2f}, "
    shown += "" if ratio is None else f"{entry['max']:.2f}]"
    verdict = "" if ratio is None or target is None else "met" if ratio >= target else "missed"
    peer = entry.get("note", "-") if entry["peer"] is None else f"{entry['peer']:.4g}"
    ours = "-" if entry["ours"] is None else f"{entry['ours']:.4g}"
    cells = (entry["row"], ours, peer, entry["unit"], shown)
    return f"| {' | '.join(cells)} | {'-' if target is None else f'{target:g}'} | {verdict} |"


def _serve(job: dict) -> None:
    """The process of a contender: sets up, then measures once per line of input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the errors
    if job["cores"] is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["cores"]])
    module, name = job["function"].split(":")
    try:
        work = getattr(importlib.import_module(module), name)(**job["arguments"])
        answer = {"ready": True}
    except ImportError as error:
        work, answer = None, {"missing": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
    for _ in sys.stdin:
        before = _cpu_seconds()
        value = float(work())
        answer = {"value": value, "cpu_seconds": _cpu_seconds() - before}
        print(json.dumps(answer), file=answers, flush=True)


def _cpu_seconds(process: int | None = None) -> float:
    """Of a process (this one when None), its children that run, and those that have ended."""
    process = process or os.getpid()
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:  # it has just ended: then its parent counts it
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(_cpu_seconds(int(child)) for child in children)


def timed(work: Callable[[], int]) -> float:
    """Returns samples/s of `work`, which returns the number of samples it handled."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def steady(batches: Iterable, steps: int, count: Callable[[Any], int]) -> float:
    """Returns samples/s of an input pipeline once it runs.

    Args:
        batches: iterated once.
        steps: how many there are; the clock starts with the last of the first quarter.
        count: batch -> number of its samples.
    """
    held, samples = iter(batches), 0
    for _ in range(max(1, steps // 4)):
        next(held)
    start = time.perf_counter()
    for batch in held:
        samples += count(batch)
    return samples / (time.perf_counter() - start)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
