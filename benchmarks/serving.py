"""Serving (P7): an export against Keras' own ways and PyTorch, from tensors and from raw bytes.

Command: python -m benchmarks.serving --out DIR [--quick] [--rounds N] [--only "raw, 64"]
[--soak MINUTES]. Needs mmkeras[bench].

Model A of `benchmarks/models.py` with masks (CNN of 64 x 64 pixels + LSTM of 32 tokens), exported.
`tensors`: decoded pictures and token ids go in; `raw`: JPEG of 500 x 375 and text. The export runs
in TensorFlow's session, which is what TF Serving runs; what REST or gRPC add is not measured. Keras
runs `predict` and `predict_on_batch` on what the exported decoders make of the bytes. PyTorch has
the same weights (outputs must be equal within 1e-4) and, from bytes, the usual Python: PIL, a
picture per core, and a dict of words; its bfloat16 is autocast. Figures by batch size: `p50` and
`p99` of one request, in milliseconds, one at a time, and `throughput`, the samples of as many
requests by the time that they took together, one at a time and from four threads (each framework
with as many threads of its own as there are cores). The variants, `bfloat16` and `XLA`, are
mmkeras' against its own float32. A model that stands in `--out` is exported anew.

`--soak` sends requests of 1 to 8 samples, with inputs left out, from four threads at one session,
and reports how many were served and what the memory has grown by since the first tenth.
"""

import argparse
import io
import itertools
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import common, input_data, models

SIZES, CALLS = (1, 8, 64), {1: 300, 8: 200, 64: 100}  # p99 of 100: one is beyond
THREADS = 4
ALONE, TOGETHER = "throughput", f"throughput of {THREADS} threads"
FIGURES = {"p50": "ms", "p99": "ms", ALONE: "samples/s", TOGETHER: "samples/s"}
BEST = "torch channels last"
TARGETS = {
    ("predict", "tensors", 1): 15.0,
    ("predict", "raw", 1): 15.0,
    (BEST, "tensors", 1): 0.5,
    (BEST, "tensors", 64): 1.2,
    (BEST, "raw", 64): 1.3,
}


def main(argv: list[str] | None = None) -> dict:
    """Runs all rows, or the soak."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--soak", type=float, default=0.0)
    own, rest = parser.parse_known_args(argv)
    args = common.arguments(__doc__, rest)
    results = common.Results("serving", args)
    job = {"folder": str(args.out / "model"), "rounds": args.rounds, "quick": args.quick}
    shutil.rmtree(job["folder"], ignore_errors=True)  # it may be of another commit
    with common.Contender("benchmarks.serving:export", folder=job["folder"]) as made:
        made.measure()
    if own.soak:
        work = common.Contender("benchmarks.serving:soak", folder=job["folder"], minutes=own.soak)
        with work:
            results.add(*_soaked(work, own.soak))
        return results.save()
    for kind, size in itertools.product(("tensors", "raw"), SIZES[:2] if args.quick else SIZES):
        if args.only in f"{kind}, {size}":
            results.add(*_rows(kind, size, {**job, "kind": kind, "size": size}))
    return results.save()


def _rows(kind: str, size: int, job: dict) -> list[dict]:
    """Measures every contender in turn, round by round, at one batch size."""

    def who(function: str, **options: Any) -> common.Contender:
        return common.Contender(f"benchmarks.serving:{function}", **job, **options)

    peers = {
        "predict": who("keras_predict", method="predict"),
        "predict_on_batch": who("keras_predict", method="predict_on_batch"),
        "torch": who("torch"),
        BEST: who("torch", channels_last=True),
        "torch traced, channels last": who("torch", channels_last=True, how="trace"),
        "torch bfloat16, channels last": who("torch", channels_last=True, bfloat16=True),
        "mmkeras bfloat16": who("session", model="bfloat16"),
        "mmkeras XLA": who("session", model="xla"),
    }
    if job["quick"]:
        peers = {name: peers[name] for name in ("predict", BEST)}
    else:  # minutes of C++
        peers["torch.compile, channels last"] = who("torch", channels_last=True, how="compile")
    ours, held = who("session"), {}
    with ours:
        for name, peer in peers.items():  # two at a time: little memory, the same neighbours
            with peer:
                sides = {"ours": ours} if peer.missing else {"ours": ours, name: peer}
                for side, figure in itertools.product([*sides] * job["rounds"], FIGURES):
                    value = sides[side].measure()["value"]
                    held.setdefault((name, side, figure), []).append(value)
    rows = []
    for name, figure in itertools.product(peers, FIGURES):
        measured = (held.get((name, side, figure), []) for side in ("ours", name))
        target = TARGETS.get((name, kind, size)) if figure == "p50" else None
        unit = FIGURES[figure]
        title = f"{kind}, {size}: {name}, {figure}"
        row = common.row(title, *measured, unit, target, lower_is_better=unit == "ms")
        missing = peers[name].missing
        rows.append({**row, "note": missing} if missing else row)
    return rows


def requests(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns JPEG bytes and texts of 32 known words."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    field, pictures = input_data.texture(rng), []
    for _ in range(size):
        file = io.BytesIO()
        Image.fromarray(input_data.picture(rng, field)).save(file, "JPEG", quality=88)
        pictures.append(file.getvalue())
    known = np.array(vocabulary())
    ids = rng.integers(2, models.WORDS, (size, models.TOKENS))
    texts = [" ".join(row) for row in known[ids]]
    return {"image": np.array(pictures, object), "words": np.array(texts, object)}


def vocabulary() -> tuple[str, ...]:
    """Returns the words by id."""
    return ("[PAD]", "[UNK]", *(f"word{i}" for i in range(2, models.WORDS)))


def modalities() -> dict:
    """Returns the specs."""
    import mmkeras as mk

    text = mk.Text(length=models.TOKENS, vocabulary=vocabulary())
    return {"image": mk.Image(size=64), "words": text}


def build() -> Any:
    """Returns model A with masks and mmkeras' head."""
    import keras
    from keras import layers, ops

    import mmkeras as mk

    keras.utils.set_random_seed(0)
    inputs = {
        "image": keras.Input((64, 64, 3), dtype="uint8", name="image"),
        "image_mask": keras.Input((), dtype="bool", name="image_mask"),
        "words": keras.Input((models.TOKENS,), dtype="int32", name="words"),
        "words_mask": keras.Input((models.TOKENS,), dtype="bool", name="words_mask"),
    }
    there = ops.cast(inputs["image_mask"], "float32")[:, None]
    x = layers.Rescaling(1 / 255)(inputs["image"])
    for width in (32, 64, 128):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x)) * there
    embedded = layers.Embedding(models.WORDS, 32)(inputs["words"])
    words = layers.LSTM(32)(embedded, mask=inputs["words_mask"])
    x = layers.Dense(64, activation="relu")(layers.Concatenate()([x, words]))
    head = mk.heads.Classifier(models.CLASSES, name="answer")
    return mk.Model(inputs, {"answer": head({"pooled": x})})


def decoded(raw: dict) -> dict[str, np.ndarray]:
    """Returns what the decoders make of requests."""
    import mmkeras as mk

    x = {}
    for name, modality in modalities().items():
        decode = mk.data.decoder(modality)
        values = decode(np.array(raw[name].tolist(), object))
        x[name], x[f"{name}_mask"] = (value.numpy() for value in values)
    return x


def export(folder: str) -> Callable[[], float]:
    """Writes the model, its variants and its weights."""

    def work() -> float:
        import mmkeras as mk
        from mmkeras.export import variants

        specs, home = modalities(), Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        model = build()
        model.save(home / "model.keras")
        mk.export.saved_model(model, specs, home / "float32")
        mk.export.saved_model(model, specs, home / "xla", jit=True)
        mk.export.saved_model(variants.convert(model, "bfloat16"), specs, home / "bfloat16")
        for size in SIZES:  # PyTorch reads them: its compiler does not run beside TensorFlow
            np.savez(home / f"{size}.npz", **decoded(requests(size)))
        with np.load(home / "8.npz") as x:
            answer = model.predict_on_batch(dict(x))["answer"]
        weights = {v.path: v.numpy() for v in model.weights}
        np.savez(home / "weights.npz", answer=answer, **weights)
        return 0.0

    return work


def measurements(run: Callable[[], Any], size: int, job: dict) -> Callable[[], float]:
    """Returns a function that gives the figures of calls of `run`, in turn."""
    calls = 3 if job["quick"] else CALLS[size]
    for _ in range(3):
        run()

    def figures() -> Any:
        while True:
            times = []
            for _ in range(calls):
                start = time.perf_counter()
                run()
                times.append(1e3 * (time.perf_counter() - start))
            yield from (float(np.percentile(times, q)) for q in (50, 99))
            yield size * calls / (1e-3 * sum(times))
            with ThreadPoolExecutor(THREADS) as pool:
                start = time.perf_counter()
                list(pool.map(lambda _: run(), range(calls)))
                yield size * calls / (time.perf_counter() - start)

    made = figures()
    return lambda: next(made)


def load(folder: str, signature: str) -> Callable[[dict], dict]:
    """Loads an export into a session; returns request -> outputs, with defaults filled in."""
    import tensorflow as tf

    from mmkeras.export.answer import Loaded

    loaded = Loaded(folder)
    chosen = loaded.signatures[signature]
    names = list(chosen.inputs)
    defaults = {n: tf.make_ndarray(chosen.defaults[n]) for n in names if n in chosen.defaults}
    run = loaded.session.make_callable(
        {name: info.name for name, info in chosen.outputs.items()},
        [chosen.inputs[name].name for name in names],
    )

    def answer(request: dict) -> dict:
        return run(*(request[n] if n in request else defaults[n] for n in names))

    return answer


def session(
    folder: str, kind: str, size: int, model: str = "float32", **job: Any
) -> Callable[[], float]:
    """Returns the measured work of an export."""
    run = load(str(Path(folder) / model), {"raw": "serving_default", "tensors": "decoded"}[kind])
    raw = requests(size)
    x = raw if kind == "raw" else decoded(raw)
    return measurements(lambda: run(x), size, job)


def keras_predict(
    folder: str, kind: str, size: int, method: str, **job: Any
) -> Callable[[], float]:
    """Returns the measured work of `predict` or `predict_on_batch`."""
    import keras
    import tensorflow as tf

    import mmkeras as mk

    call = getattr(keras.models.load_model(Path(folder) / "model.keras"), method)
    quiet = {"verbose": 0, "batch_size": size} if method == "predict" else {}
    decoders = {name: mk.data.decoder(spec) for name, spec in modalities().items()}

    @tf.function(input_signature=[{name: tf.TensorSpec([None], tf.string) for name in decoders}])
    def decode(raw: dict) -> dict:
        x = {}
        for name, one in decoders.items():
            x[name], x[f"{name}_mask"] = one(raw[name])
        return x

    raw = {name: tf.constant(values.tolist()) for name, values in requests(size).items()}
    x = {name: value.numpy() for name, value in decode(raw).items()}
    if kind == "tensors":
        return measurements(lambda: call(x, **quiet), size, job)
    return measurements(lambda: call(decode(raw), **quiet), size, job)


def torch(folder: str, kind: str, size: int, **options: Any) -> Callable[[], float]:
    """Returns the measured work of PyTorch."""
    common.need("torch")
    from benchmarks import torch_serving

    job = {"quick": options.pop("quick"), "rounds": options.pop("rounds")}
    home = Path(folder)
    answer = torch_serving.model(home / "weights.npz", np.load(home / "8.npz"), **options)
    raw = requests(size)
    if kind == "tensors":
        x = np.load(home / f"{size}.npz")
        pixels = torch_serving.pixels(list(x["image"]), options.get("channels_last", False))
        words = torch_serving.ids(x["words"])
        return measurements(lambda: answer(pixels, words), size, job)
    prepare = torch_serving.preprocessing(vocabulary(), options.get("channels_last", False))
    return measurements(lambda: answer(*prepare(raw)), size, job)


def soak(folder: str, minutes: float) -> Callable[[], float]:
    """Returns work that gives, in turn: requests served, requests sent, MiB before and after."""
    run = load(str(Path(folder) / "float32"), "serving_default")
    raw, lock = requests(64), threading.Lock()
    end, counts, resident = time.monotonic() + 60 * minutes, {"sent": 0, "served": 0}, []

    def client(number: int) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            rows = rng.integers(0, 64, rng.integers(1, 9))
            kept = [name for name in raw if rng.random() < 0.8] or ["words"]
            try:
                answer = run({name: raw[name][rows] for name in kept})
                good = bool(np.isfinite(answer["answer"]).all()) and len(answer["answer"]) == len(
                    rows
                )
            except Exception as error:  # every failure counts, and the soak goes on
                print(repr(error)[:500])
                good = False
            with lock:
                counts["sent"] += 1
                counts["served"] += good

    def figures() -> Any:
        clients = [threading.Thread(target=client, args=(i,)) for i in range(THREADS)]
        for thread in clients:
            thread.start()
        while any(thread.is_alive() for thread in clients):
            time.sleep(min(1.0, minutes))
            resident.append(_resident())
        tenth = max(1, len(resident) // 10)
        yield from (counts["served"], counts["sent"])
        yield from (
            np.median(resident[tenth : 2 * tenth] or resident),
            np.median(resident[-tenth:]),
        )

    made = figures()
    return lambda: next(made)


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _soaked(work: common.Contender, minutes: float) -> list[dict]:
    served, sent, before, after = (work.measure()["value"] for _ in range(4))
    title = f"soak, {minutes:g} min, {THREADS} threads"
    return [
        common.row(f"{title}: served of sent", [served], [sent], "requests", 1.0),
        common.row(f"{title}: memory after, before", [after], [before], "MiB", 1 / 1.02, True),
    ]


if __name__ == "__main__":
    main()
