"""Every registered encoder: parameters, operations and time per sample of the forward pass.

Command: python -m benchmarks.encoders --out DIR [--quick] [--rounds N].

Variant "small" (the defaults) on pictures of 64 x 64, texts of 32 tokens out of 10,000 (256
characters where the encoder reads these), sounds of one second at 16 kHz, vectors of 16 numbers (32
of them for encoders of sequences), tables of 8 numeric and 4 categorical columns of 100 categories,
series of 128 steps with 6 channels, clips of 16 frames of 64 x 64, three pictures of 64 x 64.
Operations are floating-point ones (a multiplication and an addition are two), counted by
TensorFlow's profiler on the graph of one sample, recurrent layers unrolled; it counts matrix
products, convolutions and element-wise operations, and no Fourier transform. Milliseconds are the
median over the rounds, per sample, alone and in batches of 32, compiled as `tf.function` without
XLA. Writes result.json and prints the table.
"""

import os

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk
from benchmarks import common
from experiments.result import about, write
from mmkeras.encoders import ENCODERS
from mmkeras.training.cost import forward_flops, latency_ms

VOCABULARY = ("[PAD]", "[UNK]", *(f"w{i}" for i in range(9_998)))
SPECS = {
    "image": mk.Image(size=64),
    "text": mk.Text(length=32, vocabulary=VOCABULARY),
    "audio": mk.Audio(),
    "vector": mk.Vector(size=16, normalize=False),
    "table": mk.Table(
        numeric=tuple(f"n{i}" for i in range(8)),
        categorical=tuple(f"c{i}" for i in range(4)),
        mean=(0.0,) * 8,
        scale=(1.0,) * 8,
        vocabularies=(tuple(str(i) for i in range(99)),) * 4,
    ),
    "series": mk.Series(steps=128, channels=6, normalize=False),
    "video": mk.Video(frames=16, size=64),
    "several": mk.Several(mk.Image(size=64), 3),
}
SEQUENCE = mk.Vector(size=16, steps=32, normalize=False)
OWN = {
    ("text", "char_cnn"): mk.Text(length=256, tokenizer="bytes"),
    ("vector", "lstm"): SEQUENCE,
    ("vector", "transformer"): SEQUENCE,
}
"""Specs of encoders that read something else than their kind's."""


def batch_of(spec: mk.Modality, size: int) -> dict[str, tf.Tensor]:
    """Returns `size` random items that are there as a whole."""
    rng, shape = np.random.default_rng(0), (size, *spec.shape)
    high = len(spec.vocabulary) if spec.kind == "text" else 256
    value = rng.integers(0, high, shape) if "int" in spec.dtype else rng.uniform(-1, 1, shape)
    if spec.kind == "table":
        value[:, len(spec.numeric) :] = rng.integers(0, 100, (size, len(spec.categorical)))
    mask = np.ones((size, *spec.mask_shape), bool)
    return {"x": tf.constant(value.astype(spec.dtype)), "x_mask": tf.constant(mask)}


def measure(kind: str, name: str, rounds: int) -> dict:
    """Returns the row of an encoder."""
    keras.backend.clear_session()
    spec = OWN.get((kind, name), SPECS[kind])
    model = mk.encoders.get(name, "x", spec)
    one = batch_of(spec, 1)
    return {
        "row": f"{kind} {name}",
        "parameters": model.count_params(),
        "flops": forward_flops(model, 1, unroll=True),
        "ms_batch_1": latency_ms(model, one, rounds),
        "ms_batch_32": latency_ms(model, batch_of(spec, 32), rounds) / 32,
    }


def main(argv: list[str] | None = None) -> dict:
    """Measures every encoder."""
    args = common.arguments(__doc__, argv)
    rounds = 2 if args.quick else 10 * args.rounds
    load, rows = os.getloadavg(), []
    print("| encoder | parameters | MFLOP / sample | ms, batch 1 | ms / sample, batch 32 |")
    print("|---|---|---|---|---|")
    for kind, spec in SPECS.items():
        for name in list(ENCODERS[spec.kind])[: 1 if args.quick else None]:
            row = measure(kind, name, rounds)
            rows.append(row)
            print(
                f"| {row['row']} | {row['parameters']:,} | {row['flops'] / 1e6:.1f} "
                f"| {row['ms_batch_1']:.2f} | {row['ms_batch_32']:.2f} |",
                flush=True,
            )
    result = {
        "name": "encoders",
        **about("tensorflow", "keras"),
        "rows": rows,
        "load_before": load,
        "load_after": os.getloadavg(),
    }
    write(args.out / "result.json", result)
    return result


if __name__ == "__main__":
    main()
