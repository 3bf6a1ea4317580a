"""How well a model answers when modalities are missing, by rate: a table, a picture, TensorBoard.

Source: the missing-rate curves of the literature on missing modalities, e.g. Ma et al. 2021 (SMIL).
"""

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.data.drop import dropped, of_rows, present
from mmkeras.training import workers

ALL, BUT = "all at once", "all but "


def missing_curve(
    model: keras.Model,
    data: Any,
    *,
    split: str = "test",
    rates: Sequence[float] = tuple(i / 10 for i in range(10)),
    batch_size: int = 64,
    out: str | os.PathLike | None = None,
    log_dir: str | os.PathLike | None = None,
    verbose: int = 1,
) -> list[dict]:
    """Evaluates a compiled model at every rate of missing modalities; returns a row for each.

    For every modality by itself (the others stay), and for all at once, at every rate; then with
    each modality alone, and with none. What is missing is drawn by row, as `data.test(drop=)` does:
    the same rows on every call, whatever the model, of which those at a higher rate hold those at
    a lower one. A sample keeps one of the modalities it has (`mmkeras.data.drop`), so that all at
    once less is missing than the rate says: the rows tell how much. Items are decoded once per
    evaluation; `data.cache()` decodes them once for all.

    A row holds

    - "missing": a modality, "all at once", or "all but NAME"; and its "rate". None is there in
      the row of "all at once" with rate 1;
    - "absent/NAME": share of the samples in which the modality was absent in this evaluation, also
      where the data lack it;
    - the loss and every metric, by the names that `model.evaluate` gives them.

    Args:
        model: compiled.
        data: `Data` or `Shards` of two modalities or more.
        split: on which it is evaluated.
        rates: in [0, 1].
        batch_size: of the evaluation.
        out: folder for `missing.csv`, `missing.json` and, where matplotlib is there,
            `missing.png`: the first accuracy, or else the first metric, against the rate.
        log_dir: folder for TensorBoard: scalars `missing/...`, of which the step is the rate in %.
        verbose: 0 says nothing.

    Raises:
        ValueError: one modality alone, or a rate outside [0, 1].
    """
    names = list(data.modalities)
    if len(names) < 2:
        raise ValueError(
            "A sample keeps one of its modalities, so that a curve needs two of them. Received: "
            f"{names}. Evaluate the model with data.{split}(...)."
        )
    rates = [checks.real("rates", rate, 0.0, 1.0) for rate in rates]
    evaluations = _evaluations(names, rates)
    here = np.concatenate([present(x, names) for x, *_ in data.batches(split, batch_size)])
    drawn, known, rows = of_rows(len(here), len(names), data.seed), {}, []
    for number, (missing, rate, chosen) in enumerate(evaluations):
        at = tuple(rate if name in chosen else 0.0 for name in names)
        if at not in known:
            lost = dropped(here, tf.constant(at), drawn).numpy()
            absent = (lost | ~here).mean(axis=0).tolist()
            batches = data.batches(split, batch_size, drop=dict(zip(names, at, strict=True)))
            known[at] = {
                **{f"absent/{name}": share for name, share in zip(names, absent, strict=True)},
                **model.evaluate(batches, return_dict=True, verbose=0),
            }
        rows.append({"missing": missing, "rate": rate, **known[at]})
        if verbose:
            shown = metric_of(rows)
            print(
                f"{number + 1}/{len(evaluations)} missing {missing} at {rate:g}: "
                f"{shown} {rows[-1][shown]:.4f}",
                flush=True,
            )
    if workers.is_chief():
        if out is not None:
            _write(Path(out), rows)
        if log_dir is not None:
            _log(str(log_dir), rows)
    return rows


def _evaluations(names: list[str], rates: list[float]) -> list[tuple]:
    """Returns (what is missing, rate, modalities that have it) of every row."""
    curves = [(name, rate, {name}) for name in names for rate in rates]
    curves += [(ALL, rate, set(names)) for rate in rates if rate < 1.0]
    alone = [(f"{BUT}{name}", 1.0, set(names) - {name}) for name in names]
    return [*curves, *alone, (ALL, 1.0, set(names))]


def metric_of(rows: list[dict]) -> str:
    """Returns the name of the first accuracy, or else metric, or else loss of a curve's rows."""
    names = [n for n in rows[0] if n not in ("missing", "rate") and not n.startswith("absent/")]
    metrics = [n for n in names if not n.endswith(("loss", "_score", "_weight"))]
    return next((n for n in metrics if n.endswith("accuracy")), (metrics or names)[0])


def _write(folder: Path, rows: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    whole = {
        "missing.csv": lambda path: path.write_text(table.getvalue(), newline=""),
        "missing.json": lambda path: path.write_text(json.dumps(rows, indent=1) + "\n"),
    }
    try:
        from matplotlib.figure import Figure

        whole["missing.png"] = lambda path: _draw(Figure((6.4, 4.4), layout="tight"), rows, path)
    except ImportError:
        print("No missing.png: it needs matplotlib, `pip install 'mmkeras[plot]'`", file=sys.stderr)
    for name, make in whole.items():
        _renamed(folder / name, make)


def _renamed(path: Path, make: Callable) -> None:
    scratch = path.with_name(f"{path.name}.writing")
    make(scratch)
    os.replace(scratch, path)


def _draw(figure: Any, rows: list[dict], path: Path) -> None:
    """A line for every curve, and a dotted one across for each modality alone, and for none."""
    axes, metric = figure.subplots(), metric_of(rows)
    *rows, nothing = rows
    for number, name in enumerate(dict.fromkeys(row["missing"] for row in rows)):
        held, colour = [row for row in rows if row["missing"] == name], f"C{number}"
        values = [row[metric] for row in held]
        if name.startswith(BUT):
            axes.axhline(values[0], linestyle=":", color=colour, label=name)
        else:
            axes.plot([row["rate"] for row in held], values, "o-", color=colour, label=name)
    axes.axhline(nothing[metric], linestyle=":", color="black", label="all")
    axes.set(xlabel="missing rate", ylabel=metric)
    axes.legend(title="missing")
    figure.savefig(path, format="png", dpi=120)


def _log(folder: str, rows: list[dict]) -> None:
    writer = tf.summary.create_file_writer(folder)
    with writer.as_default():
        for row in rows:
            for name, value in row.items():
                if name not in ("missing", "rate"):
                    tag = f"missing/{row['missing']}/{name}".replace(" ", "_")
                    tf.summary.scalar(tag, value, step=round(100 * row["rate"]))
    writer.close()
