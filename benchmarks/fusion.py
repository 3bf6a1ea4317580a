"""Every registered fusion: time and memory, beside plain PyTorch where the field has the formula.

Command: python -m benchmarks.fusion --out DIR [--quick] [--rounds N] [--only gated]. The peers need
mmkeras[bench]. `--only ": memory"` measures the memory alone.

Three modalities of 32 tokens, 128 wide, are fused at width 128 in batches of 64, all present, with
the fusion's defaults; what is read is `pooled`. Rows of a fusion: `forward`, milliseconds of a
forward pass; `step`, of one with its gradients by all weights and tokens; `memory`, MiB by which
the first such step raises the resident size at its peak, after one of a single sample, in a process
that has done nothing else (TensorFlow keeps what it has once got; PyTorch gives back one by one
what is mapped, MALLOC_MMAP_THRESHOLD_). mmkeras runs as `tf.function`; `step, XLA` also compiled,
against the same step of PyTorch. The peers of `benchmarks/torch_fusions.py` have the same weights
and formula, and neither masks nor absent tokens, which mmkeras computes: their output must be equal
within 1e-4 before anything is measured. The processes take turns, round by round.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import common

NAMES = ("image", "text", "sound")
PEERS = (
    "attention_pooling",
    "block",
    "bottleneck",
    "compact_bilinear",
    "concatenation",
    "cross_attention",
    "film",
    "gated",
    "late_transformer",
    "low_rank",
    "mfb",
    "mfh",
    "mlb",
    "mult",
    "multiplicative",
    "mutan",
    "perceiver_resampler",
    "squeeze_excitation",
    "sum",
    "tensor_fusion",
)
"""Fusions that `benchmarks/torch_fusions.py` has, too."""
SIZES = {"batch": 64, "length": 32, "dim": 128, "repeats": 15}
QUICK = {"batch": 4, "length": 5, "dim": 8, "repeats": 2}
QUICK_NAMES = ("gated", "max_pooling")
TIMES, MEMORY = ("forward", "step", "step, XLA"), ("memory",)
MAPPED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows."""
    from mmkeras.fusion import FUSIONS

    args = common.arguments(__doc__, argv)
    results = common.Results("fusion", args)
    job = {"rounds": args.rounds, "sizes": QUICK if args.quick else SIZES}
    job["folder"] = str(args.out / "weights")

    def run(names: list[str], figures: tuple[str, ...], rounds: int, env: dict) -> None:
        own = {**job, "names": names, "figures": list(figures), "rounds": rounds}
        with contextlib.ExitStack() as stack:
            ours, peer = (
                common.Contender(f"benchmarks.fusion:{side}", env=env, **own)
                for side in ("ours", "torch")
            )
            stack.enter_context(ours)
            if set(names) & set(PEERS):
                stack.enter_context(peer)
            for name in names:
                results.add(*rows(name, ours, peer, figures, rounds))

    def chosen(figures: tuple[str, ...]) -> list[str]:
        names = [n for n in FUSIONS if n in QUICK_NAMES or not args.quick]
        return [n for n in names if any(args.only in f"{n}: {f}" for f in figures)]

    times = TIMES[: 2 if args.quick else 3]
    if chosen(times):
        run(chosen(times), times, args.rounds, {})
    for name in chosen(MEMORY):  # in a process of its own: TensorFlow gives nothing back
        run([name], MEMORY, 1, MAPPED)
    return results.save()


def rows(
    name: str,
    ours: common.Contender,
    peer: common.Contender,
    figures: tuple[str, ...],
    rounds: int,
) -> list[dict]:
    """Measures a fusion in turn on both sides, which expect it (see `measurements`)."""
    held = {(side, figure): [] for side in ("ours", "peer") for figure in figures}
    for _ in range(rounds):
        for figure in figures_of(name, figures):
            held["ours", figure].append(ours.measure()["value"])
            if name in PEERS and figure in peer_figures(figures) and not peer.missing:
                held["peer", figure].append(peer.measure()["value"])
    made = []
    for figure in figures_of(name, figures):
        theirs = held["peer", "step" if figure == "step, XLA" else figure]
        unit = "MiB" if figure == "memory" else "ms"
        row = common.row(f"{name}: {figure}", held["ours", figure], theirs, unit, None, True)
        made.append({**row, "note": peer.missing} if name in PEERS and peer.missing else row)
    return made


def figures_of(name: str, figures: tuple[str, ...]) -> list[str]:
    """What is measured of a fusion: XLA only where there is a peer, since compiling takes long."""
    return [figure for figure in figures if name in PEERS or figure != "step, XLA"]


def peer_figures(figures: tuple[str, ...]) -> list[str]:
    """What is measured of a peer."""
    return [figure for figure in figures if figure != "step, XLA"]


def numbers(batch: int, length: int, dim: int) -> dict[str, np.ndarray]:
    """Returns the tokens of each modality, (B, T, D) float32."""
    rng = np.random.default_rng(0)
    return {m: rng.standard_normal((batch, length, dim)).astype("float32") for m in NAMES}


def measurements(
    prepare: Callable[[str], dict[str, Callable]], figures: list, job: dict
) -> Iterator[float]:
    """Yields the figures of each fusion in turn, round by round.

    Args:
        prepare: name -> {"forward": work, "step": work, "small": a step of one sample, ...};
            "memory", where "step" would still be traced after "small".
        figures: of a name in a round, in order.
        job: names, rounds, sizes.
    """
    for name in job["names"]:
        works = prepare(name)
        for _ in range(job["rounds"]):
            for figure in figures_of(name, figures):
                if figure == "memory":
                    works["small"]()
                    yield peak(works.get("memory", works["step"]))
                else:
                    yield milliseconds(works[figure], job["sizes"]["repeats"])


def milliseconds(work: Callable, repeats: int) -> float:
    """Returns the median time of a call; the first two are not counted."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def peak(work: Callable) -> float:
    """Returns by how many MiB the resident size rises at most while `work` runs."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the size of now
    before = _mib("VmRSS")
    work()
    return max(_mib("VmHWM") - before, 0.01)


def _mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def ours(folder: str, figures: list, sizes: dict, **job) -> Callable[[], float]:
    """Returns the measured work of mmkeras; writes each fusion's weights and output to `folder`."""
    import tensorflow as tf

    from mmkeras.fusion import FUSIONS

    tokens = numbers(sizes["batch"], sizes["length"], sizes["dim"])
    Path(folder).mkdir(parents=True, exist_ok=True)

    def prepare(name: str) -> dict[str, Callable]:
        layer = FUSIONS[name](NAMES, hidden_dim=sizes["dim"])
        x = {m: tf.constant(value) for m, value in tokens.items()}
        seen = {m: value[:1] for m, value in x.items()} if "memory" in figures else x

        def forward(x: dict) -> tf.Tensor:
            masks = {m: tf.ones(tf.shape(value)[:2], "bool") for m, value in x.items()}
            return layer({m: {"tokens": x[m], "mask": masks[m]} for m in x})["pooled"]

        def step(x: dict) -> list:
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_mean(forward(x) ** 2)
            return tape.gradient(loss, [*x.values(), *weights])

        forward(seen)
        rng = np.random.default_rng(1)
        for variable in layer.trainable_variables:  # a zero bias would hide a mistake
            variable.assign_add(0.02 * rng.standard_normal(variable.shape))
        pooled = forward(seen).numpy()
        weights = [v.value for v in layer.trainable_variables]
        arrays = {v.path.split("/", 1)[1]: v.numpy() for v in layer.weights}
        np.savez(Path(folder) / f"{name}.npz", pooled=pooled, **arrays)
        run, plain = (tf.function(part, autograph=False) for part in (forward, step))
        compiled = tf.function(step, autograph=False, jit_compile=True)
        spec = {m: tf.TensorSpec((None, *value.shape[1:])) for m, value in x.items()}
        polymorphic = tf.function(step, input_signature=[spec], autograph=False)
        return {
            "forward": lambda: run(x).numpy(),
            "step": lambda: plain(x)[0].numpy(),
            "step, XLA": lambda: compiled(x)[0].numpy(),
            "memory": lambda: polymorphic(x)[0].numpy(),
            "small": lambda: polymorphic({m: value[:1] for m, value in x.items()}),
        }

    made = measurements(prepare, figures, {**job, "sizes": sizes})
    return lambda: next(made)


def torch(folder: str, figures: list, sizes: dict, names: list, **job) -> Callable[[], float]:
    """Returns the measured work of PyTorch; raises unless outputs are those in `folder`."""
    common.need("torch")
    from benchmarks import torch_fusions

    tokens = numbers(sizes["batch"], sizes["length"], sizes["dim"])
    job |= {"names": [name for name in names if name in PEERS], "sizes": sizes}
    made = measurements(
        lambda name: torch_fusions.works(name, tokens, Path(folder) / f"{name}.npz"),
        peer_figures(figures),
        job,
    )
    return lambda: next(made)


if __name__ == "__main__":
    main()
