"""What every experiment shares: arguments, resumable rows, intervals and `result.json`."""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk
from experiments.result import about, commit, write
from mmkeras.training import recipe as recipes
from mmkeras.training.significance import interval


def arguments(doc: str, **more: dict) -> argparse.Namespace:
    """Parses the interface of every experiment: --data, --out, --seeds, --quick.

    Args:
        doc: the module's docstring.
        **more: extra options, name -> keywords of `add_argument`.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of the data set in its published layout")
    parser.add_argument("--out", required=True, help="folder for results, logs and exports")
    parser.add_argument("--quick", action="store_true", help="a slice of the data, one epoch")
    seeds = {"default": "0,1,2", "help": "comma-separated (default: %(default)s)"}
    for name, keywords in {"seeds": seeds, **more}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **keywords)
    args = parser.parse_args()
    if "--data" in doc and args.data is None:
        parser.error("--data must name the folder of the data set (see above for its layout)")
    known = more.get("rows", {}).get("default", "").split(",")
    for row in getattr(args, "rows", "").split(","):
        if row and row not in known:
            parser.error(f"--rows must be some of {','.join(known)}; received {row!r}")
    args.seeds = [int(s) for s in args.seeds.split(",")]
    args.out = Path(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def recipe(args: argparse.Namespace, **values: Any) -> dict[str, Any]:
    """Returns what `fit` takes; one epoch with --quick."""
    return {**values, "epochs": 1} if args.quick else values


class Results:
    """Rows of an experiment, one value per seed; saved after each run, so that a run resumes.

    Args:
        name: of the experiment.
        args: what `arguments` returned.
    """

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        """Reads what an earlier, interrupted call has measured."""
        self.name, self.out, self.start = name, args.out, time.time()
        # Quick and tuning runs never stand in for the real ones.
        kind = "quick" if args.quick else "runs"
        self.parts = self.out / ("tune_" * getattr(args, "tune", False) + kind)
        self.parts.mkdir(exist_ok=True)
        self.rows: dict[tuple, dict] = {}

    def run(self, row: str, seed: int, measure: Callable[[Path], dict]) -> dict:
        """Runs `measure(folder)` for a row and a seed unless it was done, and keeps its values.

        `measure` returns `{"parameters": n, "values": {"metric/split": value}}`; it may add
        further keys, which are returned as well.
        """
        folder = self.parts / f"{row}-{seed}"
        file = folder / "measured.json"
        if file.exists():
            measured = json.loads(file.read_text())
        else:
            folder.mkdir(parents=True, exist_ok=True)
            print(f"--- {self.name}: {row}, seed {seed}", flush=True)
            keras.backend.clear_session()
            measured = {**measure(folder), "commit": commit()}
            write(file, measured)
        for key, value in measured["values"].items():
            self.add(row, key, value, measured["parameters"])
        return measured

    def sweep(
        self,
        args: argparse.Namespace,
        measure: Callable[[str, int, Path], dict],
        best_of: str,
        among: Callable[[str], bool] = bool,
    ) -> Path | None:
        """Measures every row of `--rows` with every seed; returns the folder of the best run.

        Args:
            args: what `arguments` returned.
            measure: (row, seed, folder) -> as for `run`.
            best_of: "metric/split" by which a run is the best.
            among: which rows compete for it.
        """
        best: tuple[float, Path | None] = (-1.0, None)
        for row in args.rows.split(","):
            for seed in args.seeds:

                def work(folder: Path, row=row, seed=seed) -> dict:
                    return measure(row, seed, folder)

                score = self.run(row, seed, work)["values"][best_of]
                if among(row) and score > best[0]:
                    best = (score, self.parts / f"{row}-{seed}")
        return best[1]

    def majority(
        self, data: mk.data.Data, head: str, key: str = "accuracy/val", split: str = "valid"
    ) -> None:
        """Adds the row "majority": always the commonest class of the training rows."""
        truth = {name: held.truth[head] for name, held in data.splits.items()}
        self.add("majority", key, majority(truth[split], truth["train"]), 0)

    def add(self, row: str, key: str, value: float, parameters: int) -> None:
        """Adds one seed's value of "metric/split" to a row."""
        metric, split = key.split("/")
        entry = self.rows.setdefault(
            (row, metric, split),
            {"row": row, "metric": metric, "split": split, "values": [], "parameters": parameters},
        )
        entry["values"].append(float(value))

    def save(self) -> dict:
        """Writes `result.json`, prints the table, and returns the result."""
        rows = [
            {**row, "mean": float(np.mean(row["values"])), "interval": interval(row["values"])}
            for row in self.rows.values()
        ]
        result = {
            "name": self.name,
            "command": "python -m experiments." + self.name + " " + " ".join(sys.argv[1:]),
            **about("tensorflow", "keras"),
            "seconds": round(time.time() - self.start, 1),
            "rows": rows,
        }
        write(self.out / "result.json", result)
        for row in rows:
            low, high = row["interval"]
            print(
                f"{row['row']:24} {row['metric']:10} {row['split']:28} {100 * row['mean']:6.2f} % "
                f"[{100 * low:.2f}, {100 * high:.2f}]  {row['parameters']} parameters"
            )
        return result


def fit(
    model: keras.Model,
    data: mk.data.Data,
    folder: Path,
    recipe: Mapping[str, Any],
    *,
    samples: bool = False,
    mix: dict | None = None,
    drop: Any = None,
) -> None:
    """Trains by a recipe under a folder, with all callbacks; saves the last model.

    Args:
        model: assembled.
        data: with a validation split.
        folder: of the run.
        recipe: see `mmkeras.training.recipe.train`.
        samples: whether TensorBoard gets samples of the validation rows.
        mix: MixUp or CutMix, as of `data.train`.
        drop: modality dropout, as of `data.train`.
    """
    more = {"mix": mix, "drop": drop}
    recipes.train(
        model,
        data,
        {**recipe, **{key: value for key, value in more.items() if value is not None}},
        validation_data=data.valid(256),
        verbose=2,
        callbacks=mk.training.callbacks(folder, data=data if samples else None, histogram_freq=0),
    )
    model.save(folder / "last.keras")


def accuracy(model: keras.Model, dataset: tf.data.Dataset, head: str) -> float:
    """Returns the share of rows whose largest logit is the true class."""
    right = total = 0
    for x, y in dataset:
        predicted = model.predict_on_batch(x)[head].argmax(axis=1)
        right += int((predicted == y[head].numpy()).sum())
        total += len(predicted)
    return right / total


def majority(truth: np.ndarray, reference: np.ndarray) -> float:
    """Returns the accuracy on `truth` of always saying the commonest class of `reference`."""
    return float((truth == np.bincount(reference).argmax()).mean())


def export(
    run: Path | None, data: mk.data.Data, out: Path, split: str, rows: np.ndarray
) -> keras.Model | None:
    """Exports a run's last model to `out/export/1` (anew) and keeps its parity with Keras.

    Args:
        run: folder of the run; None does nothing.
        data: what it was trained on.
        out: of the experiment.
        split, rows: where parity is measured.
    """
    if run is None:
        return None
    model, folder = keras.models.load_model(run / "last.keras"), out / "export" / "1"
    shutil.rmtree(folder, ignore_errors=True)
    mk.export.saved_model(model, data.modalities, folder, data=data)
    parity = mk.export.check_parity(model, data.modalities, folder, data.raw(split, rows))
    print(f"SavedModel against Keras on {len(rows)} rows of {split}, largest difference: {parity}")
    write(out / "parity.json", {"rows": len(rows), "largest_absolute_difference": parity})
    return model
