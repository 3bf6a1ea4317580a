"""P1 - P3: from files and strings to batches, against PyTorch loaders, librosa and HF tokenizers.

    python -m benchmarks.input --out runs/bench_input [--quick] [--only P2]

P1, two cores: JPEG 500 x 375 and captions -> (64, 224, 224, 3) and ids (64, 32), with random
resized crops and an alias-free filter everywhere: against (i) PIL + bicubic + Python byte pairs in
a DataLoader of two workers, (ii) the best DataLoader we can write (libjpeg-turbo, uint8
antialiasing, HF tokenizers), (iii) tf.data as tutorials write it; and the share of what
libjpeg-turbo decodes alone. P2, one core: WAV bytes -> log-mel 98 x 40 against librosa and batched
torch.stft, with the largest difference of the features. P3, one core: word pieces against HF's
fastest batch call, with the share of lines whose ids are identical. mmkeras runs its public
pipeline. Ours does nothing else in the process: no training competes for the cores.
"""

from pathlib import Path

import numpy as np

from benchmarks import input_data
from benchmarks.common import Contender, Results, arguments, compare, row

OURS, PEERS = "benchmarks.input_ours", "benchmarks.input_peers"


def pairs(folder: str, rounds: int, quick: bool) -> list[dict]:
    """P1."""

    def on_two(function: str) -> Contender:
        return Contender(function, cores=2, folder=folder, batch=16 if quick else 64)

    return compare(
        on_two(f"{OURS}:pairs"),
        {
            "P1 image + text / usual DataLoader": (on_two(f"{PEERS}:usual_loader"), 3.0),
            "P1 image + text / best DataLoader": (on_two(f"{PEERS}:best_loader"), 0.95),
            "P1 image + text / plain tf.data": (on_two(f"{PEERS}:plain_tf"), 1.6),
            "P1 share of libjpeg-turbo's limit": (
                Contender(f"{PEERS}:jpeg_limit", cores=2, folder=folder),
                None,
            ),
        },
        unit="samples/s",
        rounds=rounds,
    )


def sounds(folder: str, rounds: int, quick: bool) -> list[dict]:
    """P2."""

    def on_one(function: str, name: str, **more: bool) -> Contender:
        return Contender(function, cores=1, folder=folder, save=f"{folder}/{name}.npy", **more)

    measured = compare(
        on_one(f"{OURS}:sounds", "ours"),
        {
            "P2 log-mel / librosa": (on_one(f"{PEERS}:librosa_features", "librosa"), 5.0),
            "P2 log-mel / librosa.stft, our mel matrix": (
                on_one(f"{PEERS}:librosa_features", "librosa_stft", own_matrix=True),
                None,
            ),
            "P2 log-mel / torch.stft": (on_one(f"{PEERS}:torch_features", "torch"), 1.5),
            "P2 log-mel / torch.stft, WAV by NumPy": (
                on_one(f"{PEERS}:torch_features", "by_hand", by_hand=True),
                None,
            ),
        },
        unit="clips/s",
        rounds=rounds,
    )
    ours = np.load(f"{folder}/ours.npy")
    for peer in ("librosa_stft", "torch"):
        if Path(f"{folder}/{peer}.npy").exists():
            worst = float(np.abs(ours - np.load(f"{folder}/{peer}.npy")).max())
            name = f"P2 largest difference to {peer} (peer: allowed)"
            measured.append(row(name, [worst], [1e-3], "standardised log-mel", 1.0, True))
    return measured


def text(folder: str, rounds: int, quick: bool) -> list[dict]:
    """P3."""

    def on_one(function: str, name: str) -> Contender:
        alone = {"TOKENIZERS_PARALLELISM": "false"}
        batch = 128 if quick else 4096
        save = f"{folder}/{name}.npy"
        return Contender(function, cores=1, env=alone, folder=folder, batch=batch, save=save)

    measured = compare(
        on_one(f"{OURS}:text", "ids"),
        {"P3 word pieces / HF tokenizers": (on_one(f"{PEERS}:hf_tokenizers", "hf_ids"), 8.0)},
        unit="MB/s",
        rounds=rounds,
    )
    if Path(f"{folder}/hf_ids.npy").exists():
        same = np.load(f"{folder}/ids.npy") == np.load(f"{folder}/hf_ids.npy")
        share = float(same.all(axis=1).mean())
        measured.append(row("P3 lines with identical ids", [share], [1.0], "share", 0.999))
    return measured


def main(argv: list[str] | None = None) -> dict:
    """Runs the benchmark; returns what `result.json` holds."""
    args = arguments(__doc__, argv)
    folder = args.out / ("quick_data" if args.quick else "data")
    sizes = (128, 2048, 128) if args.quick else (2000, 100_000, 2048)
    input_data.make(folder, *sizes)
    results = Results("input", args)
    for name, rows in {"P1": pairs, "P2": sounds, "P3": text}.items():
        if args.only in name:
            results.add(*rows(str(folder), args.rounds, args.quick))
    return results.save()


if __name__ == "__main__":
    main()
