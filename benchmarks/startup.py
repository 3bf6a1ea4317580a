"""Start-up (P8): seconds from a new process to the end of the first training step.

Command: python -m benchmarks.startup --out DIR [--quick] [--only B]. Needs mmkeras[bench].

Every measurement is a new process that imports, builds model A or B of `benchmarks/models.py` and
takes one training step on a batch in memory. "first step" is from the call of `fit` to the end of
the step, "all" from the start of the process. XLA's cache on disk (`mk.training.xla_cache`) is new
in the cold rows and filled in the warm ones; torch.compile's cache is new each time. mmkeras
compiles nothing where the row does not say XLA, as jit="auto" decides for a short run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import common


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows."""
    args = common.arguments(__doc__, argv)
    results = common.Results("startup", args)

    def who(what: str, figure: str, kind: str = "late_fusion", cache: str = "none"):
        return common.Contender(
            "benchmarks.startup:process", what=what, figure=figure, kind=kind, cache=cache
        )

    def rows(title: str, ours: common.Contender, peers: dict) -> None:
        named = {f"{title}: {name}": peer for name, peer in peers.items()}
        if args.only in title:
            results.add(
                *common.compare(ours, named, unit="s", rounds=args.rounds, lower_is_better=True)
            )

    rows(
        "import mmkeras",
        who("ours", "light"),
        {"import keras": (who("keras", "import"), None)},
    )
    for kind, name in [("late_fusion", "A"), ("clip", "B")][: 1 if args.quick else 2]:
        rows(
            f"{name}, first step",
            who("ours", "step", kind),
            {
                "Keras fit": (who("keras", "step", kind), 2.0),
                "torch eager": (who("torch", "step", kind), None),
                "torch.compile": (who("torch_compile", "step", kind), 1 / 0.3),
            },
        )
        rows(
            f"{name}, all",
            who("ours", "all", kind),
            {
                "Keras fit": (who("keras", "all", kind), None),
                "torch eager": (who("torch", "all", kind), None),
            },
        )
        rows(
            f"{name}, first step, XLA with a filled cache",
            who("ours_xla", "step", kind, "warm"),
            {
                "mmkeras with a new cache": (who("ours_xla", "step", kind, "cold"), None),
                "Keras fit, jit_compile=True": (who("keras_xla", "step", kind), 2.0),
            },
        )
    return results.save()


def process(what: str, figure: str, kind: str, cache: str) -> Callable[[], float]:
    """Returns the measured work: one figure of a new process.

    Args:
        what: "ours", "ours_xla", "keras", "keras_xla", "torch" or "torch_compile".
        figure: "light" (import mmkeras), "import" (with the framework), "step" or "all".
        kind: of model.
        cache: of XLA: "none", "cold" (a new folder each time) or "warm" (one, filled first).
    """
    if what.startswith("torch"):
        common.need("torch")
    folder = Path(tempfile.mkdtemp(prefix="xla"))

    def work() -> float:
        env = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": tempfile.mkdtemp(prefix="inductor")}
        place = {"none": "", "warm": str(folder)}.get(cache) or tempfile.mkdtemp(prefix="xla")
        arguments = [what, kind, "" if cache == "none" else place, str(time.time())]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.startup", "--child", *arguments],
            env=env,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"The process of {what} failed: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])[figure]

    if cache == "warm":
        work()
    return work


def child(what: str, kind: str, cache: str, started: str) -> None:
    """The measured process; prints its figures."""
    clock = time.perf_counter
    figures, start = {}, clock()
    if what.startswith("ours"):
        import mmkeras as mk

        figures["light"] = clock() - start
        if cache:
            mk.training.xla_cache(cache)
    first = {"ours": _ours, "keras": _keras, "torch": _torch}[what.split("_")[0]]
    step = first(kind, what.endswith(("_xla", "_compile")))
    figures["import"] = _IMPORTED[0] - start
    start = clock()
    step()
    figures["step"] = clock() - start
    figures["all"] = time.time() - float(started)
    print(json.dumps(figures))


_IMPORTED: list[float] = []


def _ours(kind: str, xla: bool) -> Callable[[], None]:
    import mmkeras as mk
    from benchmarks import models, step

    model_class = mk.Model
    _IMPORTED.append(time.perf_counter())
    model = step.build(kind, model_class, models.our_block)
    data = step.dataset(step.batches(kind, "32", 1))

    def first() -> None:
        model.compile(
            mk.training.optimizer("adamw"), loss=step.loss(kind), jit=True if xla else "auto"
        )
        model.fit(data, epochs=1, steps_per_epoch=1, verbose=0)

    return first


def _keras(kind: str, xla: bool) -> Callable[[], None]:
    import keras

    _IMPORTED.append(time.perf_counter())
    from benchmarks import models, step

    model = step.build(kind, keras.Model, models.keras_block)
    data = step.dataset(step.batches(kind, "32", 1))

    def first() -> None:
        model.compile("adamw", loss=step.loss(kind), jit_compile=True if xla else "auto")
        model.fit(data, epochs=1, steps_per_epoch=1, verbose=0)

    return first


def _torch(kind: str, compiled: bool) -> Callable[[], None]:
    import torch  # noqa: F401

    _IMPORTED.append(time.perf_counter())
    from benchmarks import step, torch_models

    (batch,) = torch_models.batches(step.batches(kind, "32", 1), channels_last=True)
    one = torch_models.step(kind, compiled=compiled, channels_last=True)
    return lambda: float(one(batch).detach())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
