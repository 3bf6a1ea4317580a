"""P9: what several processes cost, on a machine with two cores.

    python -m benchmarks.scale --out runs/bench_scale [--quick] [--only workers]

(a) Two workers with a core each, 64 rows of model A per worker, against twice the rate of one
worker on one core: efficiency, and the same for PyTorch's DDP over gloo. Against two processes
that do not talk: what is lost there is lost to talking, the rest to sharing caches and memory.
CPU time per sample shows the same on a machine that is not quiet. (b) The pipeline of P1 (JPEG
and captions) through a data service of two workers on the same two cores, against the same in
process. (c) MirroredStrategy on two logical devices against one, 64 rows in all, on two cores.
Two cores cannot show a speed-up: this bounds the overhead.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import input_data
from benchmarks.common import Contender, Results, arguments, compare, row

RUNS = "benchmarks.scale_runs"


def job(kind: str, workers: int, steps: int) -> tuple[float, float]:
    """Returns samples/s of a job started for this measurement, and CPU seconds per sample."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rate"
        launch = ["-m", "mmkeras.launch", "--workers", str(workers), "-m", RUNS]
        subprocess.run(
            [sys.executable, *launch, kind, str(steps), str(out)],
            check=True,
            timeout=600,
            stdout=subprocess.DEVNULL,
        )
        return tuple(json.loads(out.read_text()))


def weak_scaling(rounds: int, steps: int) -> list[dict]:
    """(a)."""
    jobs = [("ours", 1), ("ours", 2), ("ours_alone", 2), ("torch", 1), ("torch", 2)]
    rates: dict[tuple, list[float]] = {one: [] for one in jobs}
    cpu: dict[tuple, list[float]] = {one: [] for one in jobs}
    for _ in range(rounds):
        for one in jobs:
            rate, seconds = job(*one, steps)
            rates[one].append(rate)
            cpu[one].append(seconds)
    twice = {kind: [2 * value for value in rates[kind, 1]] for kind in ("ours", "torch")}
    two = {kind: rates[kind, 2] for kind in ("ours", "ours_alone", "torch")}
    efficiency = {
        kind: [a / b for a, b in zip(two[kind], twice[kind], strict=True)] for kind in twice
    }
    unit = "samples/s"
    return [
        row("P9 two workers / twice one", two["ours"], twice["ours"], unit, 0.80),
        row("P9 two workers / two that do not talk", two["ours"], two["ours_alone"], unit, None),
        row("P9 torch DDP: two / twice one", two["torch"], twice["torch"], unit, None),
        row("P9 efficiency / torch DDP's", efficiency["ours"], efficiency["torch"], "share", 1.0),
        row("P9 two workers / torch DDP's two", two["ours"], two["torch"], unit, None),
        *(
            row(
                f"P9 CPU time, {name}: two / one",
                cpu[kind, 2],
                cpu[kind, 1],
                "s/sample",
                None,
                True,
            )
            for kind, name in (("ours", "mmkeras"), ("torch", "torch DDP"))
        ),
    ]


def service(folder: str, rounds: int, quick: bool) -> list[dict]:
    """(b)."""

    def on_two(workers: int) -> Contender:
        batch = 16 if quick else 64
        return Contender(f"{RUNS}:reading", cores=2, folder=folder, batch=batch, workers=workers)

    name = "P9 data service of 2 workers / in process"
    return compare(on_two(2), {name: (on_two(0), 0.80)}, unit="samples/s", rounds=rounds)


def mirrored(rounds: int, steps: int) -> list[dict]:
    """(c)."""

    def on_two(count: int) -> Contender:
        return Contender(f"{RUNS}:replicas", cores=2, count=count, steps=steps)

    name = "P9 two logical devices / one (1/1.15)"
    return compare(
        on_two(2), {name: (on_two(1), 0.87)}, unit="s/step", rounds=rounds, lower_is_better=True
    )


def main(argv: list[str] | None = None) -> dict:
    """Runs the benchmark; returns what `result.json` holds."""
    args = arguments(__doc__, argv)
    folder = args.out / ("quick_data" if args.quick else "data")
    input_data.make(folder, *((128, 2048, 128) if args.quick else (1000, 20_000, 128)))
    results = Results("scale", args)
    steps = 10 if args.quick else 60
    for name, rows in {
        "workers": lambda: weak_scaling(args.rounds, steps),
        "service": lambda: service(str(folder), args.rounds, args.quick),
        "devices": lambda: mirrored(args.rounds, steps),
    }.items():
        if args.only in name:
            results.add(*rows())
    return results.save()


if __name__ == "__main__":
    main()
