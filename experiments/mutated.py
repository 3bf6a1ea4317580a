"""Requests that went wrong: what an export answers to ten thousand of them.

    python -m experiments.mutated --out runs/mutated [--quick]

A model of every kind of modality, with its first weights, is exported and loaded into a session.
Each request holds two rows: a good one, and one of which one input was changed at random
(`experiments.mutations`); in half of them the changed row stands alone, in a twentieth the input
itself has another shape or type. A
request is `bad_input` (answered, and marked in the changed row), `readable` (answered, the change
did no harm) or `refused` (an error that names an input). What must not be is counted too: a good
row whose answer differs in a bit or that is marked, an answer that is not finite, any other error.
A request of more than a minute ends the process. `--quick` sends every fiftieth.
"""

import faulthandler
import resource
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk
from experiments import common, mutations
from experiments.result import about, write
from mmkeras.data import scenes
from mmkeras.data.container import pack
from mmkeras.export.answer import Loaded

COUNT, SECONDS = 10_000, 60
REFUSED = (ValueError, TypeError, tf.errors.InvalidArgumentError)
SPECS = {
    "picture": mk.Image(size=16),
    "grey": mk.Image(size=16, channels=1),
    "views": mk.Several(mk.Image(size=8), 2),
    "clip": mk.Video(frames=2, size=8, fps=10),
    "question": mk.Text(length=8),
    "letters": mk.Text(length=8, tokenizer="characters"),
    "sound": mk.Audio(rate_hz=8000, seconds=0.2, num_bands=13),
    "numbers": mk.Vector(size=3),
    "frames": mk.Vector(size=3, steps=4),
    "motion": mk.Series(steps=6, channels=2, rate_hz=10, source_rate_hz=25),
    "facts": mk.Table(numeric=("height", "weight"), categorical=("colour",)),
}
_SMALL = {"name": "cnn", "filters": (8,)}
ENCODERS = {
    "picture": _SMALL,
    "grey": _SMALL,
    "views": {"name": "shared", "encoder": _SMALL},
    "clip": {"name": "r2plus1d", "filters": (4,), "depths": (1,)},
    "sound": _SMALL,
}


def columns(count: int = 8, seed: int = 0) -> dict[str, list]:
    """Returns rows in which nothing is missing; pictures JPEG and PNG, clips GIF and containers."""
    rng = np.random.default_rng(seed)
    made = scenes.generate(count, seed=seed, size=32)
    jpeg = [tf.io.encode_jpeg(scene.image).numpy() for scene in made]
    png = [tf.io.encode_png(scene.image).numpy() for scene in made]
    moving = [scene.clip(frames=4) for scene in made]
    boxed = pack(png[:4], [0, 50_000, 100_000, 150_000], 200_000)
    return {
        "picture": jpeg[: count // 2] + png[count // 2 :],
        "grey": png[: count // 2] + jpeg[count // 2 :],
        "views": list(zip(jpeg, png, strict=True)),
        "clip": [
            boxed if i % 3 == 2 else mutations.gif(moving[i][..., 0] // 2) for i in range(count)
        ],
        "question": [scene.caption for scene in made],
        "letters": [scene.caption for scene in made],
        "sound": [scene.sound for scene in made],
        "numbers": rng.standard_normal((count, 3)).tolist(),
        "frames": list(rng.standard_normal((count, 4, 3))),
        "motion": list(rng.standard_normal((count, 20, 2))),
        "height": rng.uniform(1, 2, count).tolist(),
        "weight": rng.uniform(50, 90, count).tolist(),
        "colour": [scene.objects[0].color for scene in made],
        "label": list("ab" * (count // 2)),
    }


def export(folder: Path, names: Iterable[str] = tuple(SPECS)) -> tuple[Path, mk.data.Data]:
    """Returns the folder of the SavedModel of some modalities, and the rows."""
    data = mk.data.table(columns(), {name: SPECS[name] for name in names}, "label")
    keras.utils.set_random_seed(0)
    heads = {"label": mk.heads.Classifier(data.classes)}
    encoders = {name: ENCODERS[name] for name in names if name in ENCODERS}
    model = mk.assemble(data.modalities, encoders, heads=heads, hidden_dim=8)
    return mk.export.saved_model(model, data.modalities, folder / "export" / "1"), data


def changed(rng: np.random.Generator, good: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Returns the changed input, the name of the change, and the request, it the last row."""
    name = str(rng.choice(list(good)))
    request = {key: np.array(value) for key, value in good.items()}
    if rng.random() < 0.05:
        mutate = mutations.WHOLE[rng.integers(len(mutations.WHOLE))]
        request[name] = mutate(rng, request[name])
        return name, mutate.__name__, request
    choice = mutations.ITEM[SPECS[name].kind]
    mutate = choice[rng.integers(len(choice))]
    first, second = request[name]
    if SPECS[name].kind == "several":
        second[rng.integers(len(second))] = mutate(rng, second[0])
    else:
        second = mutate(rng, second)
    if np.shape(first) != np.shape(second):  # steps: NaN where there is none
        longest = max(len(first), len(second))
        first, second = (
            np.pad(x, ((0, longest - len(x)), (0, 0)), constant_values=np.nan)
            for x in (first, second)
        )
    request[name] = np.stack([first, second]) if np.ndim(first) else _strings(first, second)
    if rng.random() < 0.5:
        request = {key: value[1:] for key, value in request.items()}
    return name, mutate.__name__, request


def _strings(*items: bytes) -> np.ndarray:
    held = np.empty(len(items), object)
    held[:] = items
    return held


def outcome(
    model: Loaded, request: dict[str, Any], expected: dict[str, np.ndarray], name: str
) -> tuple[str, str]:
    """Returns what became of a request whose input `name` was changed, and the text of an error.

    One of "bad_input", "readable", "refused", "good row changed", "not finite", "failed".
    """
    try:
        answer = model.ask(request)
    except REFUSED as error:
        # Where the numbers of items differ, whichever of the inputs is told is right.
        named = name in str(error) or "as many items as the others" in str(error)
        return "refused" if named else "failed", str(error)
    except Exception as error:  # whatever else is a failure of the export
        return "failed", f"{type(error).__name__}: {error}"
    if any(not np.isfinite(v).all() for v in answer.values() if v.dtype.kind == "f"):
        return "not finite", ""
    good = expected if len(answer["bad_input"]) > 1 else {}
    if any(not np.array_equal(answer[key][0], value[0]) for key, value in good.items()):
        return "good row changed", ""
    return "bad_input" if answer["bad_input"][-1].any() else "readable", ""


def ask(path: Path, data: mk.data.Data, count: int, seed: int = 0) -> dict[str, Any]:
    """Sends `count` requests; returns the counts, in all and per change, and what they took."""
    rng = np.random.default_rng(seed)
    size = len(data.splits["train"])
    table: dict[str, Counter] = {}
    failures, slowest = [], 0.0
    with Loaded(path) as model:
        pairs = [data.raw("train", [i, (i + 1) % size]) for i in range(size)]
        expected = [model.ask(pair) for pair in pairs]
        before = _peak()
        for number in range(count):
            name, change, request = changed(rng, pairs[number % size])
            start = time.perf_counter()
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            became, text = outcome(model, request, expected[number % size], name)
            faulthandler.cancel_dump_traceback_later()
            slowest = max(slowest, time.perf_counter() - start)
            table.setdefault(f"{SPECS[name].kind}: {change}", Counter())[became] += 1
            if became not in ("bad_input", "readable", "refused"):
                failures.append(f"request {number}, {name}, {change}: {became} {text}"[:500])
    return {
        "requests": count,
        "total": dict(sum(table.values(), Counter())),
        "rows": [{"row": row, **table[row]} for row in sorted(table)],
        "failures": failures,
        "slowest_seconds": round(slowest, 3),
        "peak_rss_mb": {"before": before, "after": _peak()},
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Exports, asks, prints a line per change, writes result.json."""
    args = common.arguments(__doc__)
    path, data = export(args.out)
    result = ask(path, data, COUNT // 50 if args.quick else COUNT)
    for row in result["rows"]:
        print(row)
    print({key: value for key, value in result.items() if key != "rows"})
    about_run = {"name": "mutated", **about("tensorflow", "keras")}
    write(args.out / "result.json", about_run | result)


if __name__ == "__main__":
    main()
