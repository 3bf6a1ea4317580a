"""Memory of a training step of transformer blocks, with `remat` and without.

Command: python -m benchmarks.memory --out DIR [--quick] [--rounds N].

Every measurement is a new process: 3 blocks, D = 256, 8 heads, batch 2, forward and backward; the
number is what the peak resident size grows by from before the first step to after the second, in
MiB. The seconds of the second step are in rows of their own: remat pays memory with time.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import common


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows."""
    args = common.arguments(__doc__, argv)
    results = common.Results("memory", args)
    cases = [(512, 0)] if args.quick else [(512, 0), (2048, 0), (2048, 1)]
    for length, jit in cases:
        for figure, unit in (("mib", "MiB"), ("seconds", "s")):
            ours, plain = (
                common.Contender(
                    "benchmarks.memory:process", remat=remat, jit=jit, length=length, figure=figure
                )
                for remat in (1, 0)
            )
            name = f"remat, {length} tokens{', XLA' if jit else ''}, {unit}: without remat"
            results.add(
                *common.compare(
                    ours, {name: (plain, None)}, unit=unit, rounds=args.rounds, lower_is_better=True
                )
            )
    return results.save()


def process(remat: int, jit: int, length: int, figure: str) -> Callable[[], float]:
    """Returns the measured work: one figure of a new process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child"]
    command += [str(v) for v in (remat, jit, length)]

    def work() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])[figure]

    return work


def child(remat: bool, jit: bool, length: int, layers: int = 3, dim: int = 256) -> None:
    """The measured process; prints its figures."""
    import keras
    import numpy as np
    import tensorflow as tf

    from mmkeras.layers import TransformerBlock

    keras.utils.set_random_seed(0)
    blocks = [TransformerBlock(8, 4 * dim, dropout=0.1, remat=remat) for _ in range(layers)]
    for block in blocks:
        block.build((None, length, dim))
    weights = [v.value for block in blocks for v in block.trainable_variables]
    tokens = np.random.default_rng(0).standard_normal((2, length, dim)).astype("float32")
    mask = tf.ones((2, length), "bool")

    @tf.function(jit_compile=jit)
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            for block in blocks:
                x = block(x, mask, training=True)
            loss = tf.reduce_mean(x**2)
        return tf.linalg.global_norm(tape.gradient(loss, weights))

    before = peak_mib()
    float(step(tokens))
    start = time.perf_counter()
    norm = float(step(tokens))
    seconds = time.perf_counter() - start
    print(json.dumps({"mib": peak_mib() - before, "seconds": seconds, "norm": norm}))


def peak_mib() -> float:
    """Returns the largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2] == "1", sys.argv[3] == "1", int(sys.argv[4]))
    else:
        main()
