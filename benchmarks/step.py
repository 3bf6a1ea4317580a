"""Training steps (P4, P5): mmkeras against PyTorch at its best and at its most usual, and Keras.

Command: python -m benchmarks.step --out DIR [--quick] [--only P5]. Needs mmkeras[bench].

P4 is model A of `benchmarks/models.py` (CNN of 64 x 64 pixels + LSTM of 32 tokens, batch 64), P5
model B (CLIP, batch 64) on texts cut to 32 tokens, and on texts of any length: mmkeras batches
texts of like length and pads to the smallest of four lengths, the peers pad to 77 as CLIP does.
Everybody trains on the same numbers with AdamW and two threads, from batches that lie in memory. A
row gives samples/s of whole training steps; mmkeras and Keras run `fit`, with all it does around a
step. mmkeras runs with jit="auto", which measures; Keras with its defaults, AdamW and `fit`.
"""

import itertools
import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks import common, models

BATCHES, QUICK_BATCHES = 8, 2  # different ones, in turn


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows."""
    args = common.arguments(__doc__, argv)
    results = common.Results("step", args)
    steps = (5, 2) if args.quick else (30, 10)
    batches = QUICK_BATCHES if args.quick else BATCHES

    def who(function: str, kind: str, **options: Any) -> common.Contender:
        count = steps[kind == "clip"]
        return common.Contender(
            f"benchmarks.step:{function}", kind=kind, steps=count, count=batches, **options
        )

    def rows(title: str, ours: common.Contender, peers: dict) -> None:
        if args.only not in title:
            return
        # torch.compile takes minutes of C++: not in the quick run.
        kept = {n: p for n, p in peers.items() if not (args.quick and "compile" in n)}
        named = {f"{title}: {name}": peer for name, peer in kept.items()}
        results.add(*common.compare(ours, named, unit="samples/s", rounds=args.rounds))

    kind = "late_fusion"
    rows(
        "P4 float32",
        who("ours", kind),
        {
            "torch eager": (who("torch", kind), None),
            "torch eager, channels last": (who("torch", kind, channels_last=True), 1.15),
            "torch.compile, channels last": (
                who("torch", kind, channels_last=True, compiled=True),
                1.15,
            ),
            "Keras defaults": (who("keras_defaults", kind), 0.98),
        },
    )
    best = {"channels_last": True, "bfloat16": True}
    rows(
        "P4 bfloat16",
        who("ours", kind, policy="mixed_bfloat16"),
        {
            "torch bfloat16, channels last": (who("torch", kind, **best), 1.05),
            "torch.compile bfloat16, channels last": (
                who("torch", kind, compiled=True, **best),
                1.05,
            ),
            "Keras defaults (float32)": (who("keras_defaults", kind), 1.4),
        },
    )
    kind = "clip"
    rows(
        "P5 float32, 32 tokens",
        who("ours", kind),
        {
            "torch eager": (who("torch", kind), 1.10),
            "torch.compile": (who("torch", kind, compiled=True), 1.10),
            "Keras defaults": (who("keras_defaults", kind), 1.3),
        },
    )
    rows(
        "P5 bfloat16, 32 tokens",
        who("ours", kind, policy="mixed_bfloat16"),
        {
            "torch bfloat16": (who("torch", kind, bfloat16=True), 0.85),
            "torch.compile bfloat16": (who("torch", kind, bfloat16=True, compiled=True), None),
        },
    )
    rows(
        "P5 float32, any length",
        who("ours", kind, pad="bucket"),
        {
            "mmkeras padded to 77": (who("ours", kind, pad="77"), 1.3),
            "torch eager padded to 77": (who("torch", kind, pad="77"), 1.3),
            "Keras defaults padded to 77": (who("keras_defaults", kind, pad="77"), None),
        },
    )
    return results.save()


def ours(
    kind: str, steps: int, count: int, policy: str = "float32", pad: str = "32", jit: Any = "auto"
) -> Callable[[], float]:
    """Returns the measured work of mmkeras: samples/s of `steps` steps of `fit`."""
    import mmkeras as mk

    mk.training.precision(policy)
    mk.training.seed(0)
    model = build(kind, mk.Model, models.our_block, pad)
    model.compile(mk.training.optimizer("adamw"), loss=loss(kind), jit=jit)
    return _fit(model, batches(kind, pad, count), steps)


def keras_defaults(kind: str, steps: int, count: int, pad: str = "32") -> Callable[[], float]:
    """Returns the measured work of Keras as it comes."""
    import keras

    keras.utils.set_random_seed(0)
    model = build(kind, keras.Model, models.keras_block, pad)
    model.compile("adamw", loss=loss(kind))
    return _fit(model, batches(kind, pad, count), steps)


def build(kind: str, model_class: Any, block: Any, pad: str = "32") -> Any:
    """Returns model A or B of a model class."""
    if kind == "late_fusion":
        return models.late_fusion(model_class)
    return models.clip(model_class, block, None if pad == "bucket" else int(pad))


def loss(kind: str) -> dict:
    """Returns the loss of model A or B."""
    return models.late_fusion_loss() if kind == "late_fusion" else models.clip_loss()


def batches(kind: str, pad: str, count: int) -> list:
    """Returns the numbers that everybody trains on."""
    if kind == "late_fusion":
        return models.late_fusion_batches(count)
    return models.clip_batches(count, pad)


def dataset(made: list) -> Any:
    """Returns an endless `tf.data.Dataset` of batches that lie in memory.

    Without autotuning, as all of mmkeras: at the end of `fit` its thread may be waited for, which
    would hide the steps (`mmkeras/data/options.py`).
    """
    import tensorflow as tf

    from mmkeras.data.options import tuned

    def spec(*leaves: Any) -> tf.TensorSpec:
        sizes = zip(*(leaf.shape for leaf in leaves), strict=True)
        shape = [s[0] if len(set(s)) == 1 else None for s in sizes]
        return tf.TensorSpec(shape, leaves[0].dtype)

    signature = tf.nest.map_structure(spec, *made)
    held = tf.data.Dataset.from_generator(lambda: iter(made), output_signature=signature)
    return tuned(held.cache().repeat().prefetch(2))


def _fit(model: Any, made: list, steps: int) -> Callable[[], float]:
    import keras

    data = dataset(made)

    class Once(keras.callbacks.Callback):
        """One epoch of a run that says it is long, so that jit="auto" measures."""

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.model.stop_training = True

    warm = {"epochs": 200, "steps_per_epoch": len(made), "callbacks": [Once()]}
    model.fit(data, verbose=0, **warm)

    def work() -> float:
        start = time.perf_counter()
        model.fit(data, epochs=1, steps_per_epoch=steps, verbose=0)
        return steps * models.BATCH / (time.perf_counter() - start)

    return work


def torch(
    kind: str, steps: int, count: int, pad: str = "32", **options: bool
) -> Callable[[], float]:
    """Returns the measured work of PyTorch."""
    library = common.need("torch")
    from benchmarks import torch_models

    library.set_num_threads(len(os.sched_getaffinity(0)))
    last = options.get("channels_last", False)
    held = torch_models.batches(batches(kind, pad, count), last)
    step = torch_models.step(kind, **options)
    for batch in held:
        step(batch)
    turn = itertools.cycle(held)

    def work() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step(next(turn))
        return steps * models.BATCH / (time.perf_counter() - start)

    return work


if __name__ == "__main__":
    main()
