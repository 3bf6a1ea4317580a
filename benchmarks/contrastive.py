"""Memory and time of InfoNCE with its gradient, in tiles, against the whole matrix (P6).

Command: python -m benchmarks.contrastive --out DIR [--quick] [--rounds N] [--only TEXT].

Two sets of B unit vectors of width 256 and an inverse temperature; loss and all three gradients.
Every measurement is a new process: MiB is what the peak resident size grows by over two steps from
before the first one (inputs are there, the graph is built), s the second step. Peers hold the whole
similarity matrix: TensorFlow with `sparse_softmax_cross_entropy_with_logits` in both directions,
PyTorch with `cross_entropy`. mmkeras runs with XLA and tiles of 256 rows. The gradients of all
three are compared in `tests/benchmarks`. 32,768 pairs would be 4 GiB a matrix for the peers, so
they stand there with 8,192, and the row says so.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.memory import peak_mib

DIM, TILE, SCALE = 256, 256, 14.3
WHOLE = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
TARGETS = {(8192, "torch", "mib"): 6.0, (8192, "tensorflow", "seconds"): 1 / 1.2}


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows."""
    args = common.arguments(__doc__, argv)
    results = common.Results("contrastive", args)
    cases = [(256, 256)] if args.quick else [(2048, 2048), (8192, 8192), (32768, 8192)]
    for pairs, whole in cases:
        for figure, unit in (("mib", "MiB"), ("seconds", "s")):
            title = f"{pairs:,} pairs, {unit}: "
            against = {
                who: title + name + (f" with {whole:,}" if whole != pairs else "")
                for who, name in WHOLE.items()
            }
            rows = {
                name: (_contender(who, whole, figure), TARGETS.get((pairs, who, figure)))
                for who, name in against.items()
                if args.only in name
            }
            if rows:
                ours = _contender("mmkeras", pairs, figure)
                options = {"unit": unit, "rounds": args.rounds, "lower_is_better": True}
                results.add(*common.compare(ours, rows, **options))
    return results.save()


def _contender(who: str, pairs: int, figure: str) -> common.Contender:
    return common.Contender("benchmarks.contrastive:process", who=who, pairs=pairs, figure=figure)


def process(who: str, pairs: int, figure: str) -> Callable[[], float]:
    """Returns the measured work: one figure of a new process."""
    if who == "torch":
        common.need("torch")
    command = [sys.executable, "-m", "benchmarks.contrastive", "--child", who, str(pairs)]

    def work() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])[figure]

    return work


def vectors(pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two sets of unit vectors, (pairs, DIM) float32."""
    both = np.random.default_rng(0).standard_normal((2, pairs, DIM), "float32")
    both[1] += both[0]
    return tuple(both / np.linalg.norm(both, axis=-1, keepdims=True))


def child(who: str, pairs: int) -> None:
    """The measured process; prints its figures."""
    work = {"mmkeras": tiled, "tensorflow": whole_tensorflow, "torch": whole_torch}[who]
    step = work(*vectors(pairs))
    before = peak_mib()
    step()
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    print(json.dumps({"mib": peak_mib() - before, "seconds": seconds}))


def tiled(a: np.ndarray, b: np.ndarray, tile: int = TILE) -> Callable[[], list]:
    """Returns a step of mmkeras: loss and gradients as NumPy."""
    from mmkeras.objectives import info_nce

    return _tensorflow(a, b, lambda a, b, s: info_nce(a, b, scale=s, tile=tile), jit=True)


def whole_tensorflow(a: np.ndarray, b: np.ndarray) -> Callable[[], list]:
    """Returns a step with TensorFlow's own losses."""
    import tensorflow as tf

    def loss(a: Any, b: Any, scale: Any) -> Any:
        z = scale * tf.matmul(a, b, transpose_b=True)
        own = tf.range(tf.shape(z)[0])
        both = [
            tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))
            for logits in (z, tf.transpose(z))
        ]
        return tf.add_n(both) / 2

    return _tensorflow(a, b, loss)


def _tensorflow(a: np.ndarray, b: np.ndarray, loss: Callable, jit: bool = False) -> Callable:
    import tensorflow as tf

    inputs = [tf.constant(a), tf.constant(b), tf.constant(SCALE)]

    def step(*inputs: tf.Tensor) -> list:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = loss(*inputs)
        return [value, *tape.gradient(value, inputs)]

    run = tf.function(step, jit_compile=jit or None, autograph=False)
    run.get_concrete_function(*inputs)
    return lambda: [value.numpy() for value in run(*inputs)]


def whole_torch(a: np.ndarray, b: np.ndarray) -> Callable[[], list]:
    """Returns a step with PyTorch's own loss."""
    torch = common.need("torch")
    inputs = [torch.tensor(value, requires_grad=True) for value in (a, b, np.float32(SCALE))]
    own = torch.arange(len(a))

    def step() -> list:
        for value in inputs:
            value.grad = None
        z = inputs[2] * inputs[0] @ inputs[1].T
        cross_entropy = torch.nn.functional.cross_entropy
        loss = (cross_entropy(z, own) + cross_entropy(z.T, own)) / 2
        loss.backward()
        return [loss.detach().numpy(), *(value.grad.numpy() for value in inputs)]

    return step


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
