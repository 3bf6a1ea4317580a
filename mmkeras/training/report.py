"""The outcome of a comparison: rows with intervals and tests, as tables and as a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkeras.core import files
from mmkeras.training.callbacks import LOWER_IS_BETTER
from mmkeras.training.significance import holm, interval, paired

COSTS = ("parameters", "hidden_dim", "flops", "step_ms", "latency_ms", "peak_mb", "load")


def result(held: Mapping[str, dict], splits: Sequence[str], metric: str, default: str) -> dict:
    """Returns the rows of all splits, the best first.

    Args:
        held: row -> {"values": per seed split -> metric -> value, and its costs}.
        splits, metric, default: as of `mk.compare`.
    """
    rows = []
    for split in splits:
        values = {
            name: [found[split][metric] for found in row["values"]]
            for name, row in held.items()
            if metric in row["values"][0][split]
        }
        against = {
            name: paired(found, values[default])
            for name, found in values.items()
            if name != default and len(found) == len(values[default]) and name != "majority"
        }
        corrected = holm({n: test["p"] for n, test in against.items() if test["p"] is not None})
        sign = 1 if metric.endswith(LOWER_IS_BETTER) else -1
        for name in sorted(values, key=lambda name: sign * float(np.mean(values[name]))):
            test = against.get(name)
            rows.append(
                {
                    "row": name,
                    "metric": metric,
                    "split": split,
                    "values": values[name],
                    "mean": float(np.mean(values[name])),
                    "interval": interval(values[name]),
                    "against_default": test and {**test, "p_holm": corrected.get(name)},
                    **{key: held[name].get(key) for key in COSTS},
                }
            )
    return {"name": "compare", "default": default, "metric": metric, "rows": rows}


def write(out: Path, found: dict, metric: str, default: str) -> None:
    """Writes result.json, table.csv, table.md and quality_against_cost.png."""
    files.write_json(out / "result.json", found)
    files.write_text(out / "table.csv", _csv(found["rows"]))
    text = markdown(found)
    files.write_text(out / "table.md", text)
    print(text)
    first = [row for row in found["rows"] if row["split"] == found["rows"][0]["split"]]
    picture(first, metric, default, out / "quality_against_cost.png")


def _csv(rows: list[dict]) -> str:
    file, flat = io.StringIO(), []
    for row in rows:
        test = row["against_default"] or {"difference": None, "interval": [None, None]}
        flat.append(
            {
                **{key: row[key] for key in ("row", "metric", "split", "mean")},
                **dict(zip(("low", "high"), row["interval"], strict=True)),
                "difference": test["difference"],
                **dict(zip(("difference_low", "difference_high"), test["interval"], strict=True)),
                "p": test.get("p"),
                "p_holm": test.get("p_holm"),
                **{key: row[key] for key in COSTS},
                "values": " ".join(f"{value:.6g}" for value in row["values"]),
            }
        )
    table = csv.DictWriter(file, list(flat[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(flat)
    return file.getvalue()


def markdown(found: dict) -> str:
    """Returns one table per split; shares in percent."""
    metric, default, lines = found["metric"], found["default"], []
    for split in dict.fromkeys(row["split"] for row in found["rows"]):
        rows = [row for row in found["rows"] if row["split"] == split]
        seeds = max(len(row["values"]) for row in rows)
        lines += [
            f"{metric}, {split}: mean of {seeds} seeds with its 95 % t-interval; difference from "
            f"{default}, p of the t-test paired by seed, corrected by Holm.",
            "",
            f"| row | {metric} | less {default} | p | parameters | width | MFLOP | ms / step "
            "| ms, one | MiB |",
            "|" + "---|" * 10,
            *(_line(row, metric) for row in rows),
            "",
        ]
    return "\n".join(lines)


def _line(row: dict, metric: str) -> str:
    share = 100 if metric.endswith(("accuracy", "auc")) else 1
    low, high = row["interval"]
    cells = [row["row"], f"{share * row['mean']:.2f} [{share * low:.2f}, {share * high:.2f}]"]
    test = row["against_default"]
    if test is None:
        cells += ["", ""]
    else:
        low, high = test["interval"]
        cells.append(f"{share * test['difference']:+.2f} [{share * low:.2f}, {share * high:.2f}]")
        cells.append("" if test["p_holm"] is None else f"{test['p_holm']:.2g}")
    cells += [f"{row['parameters']:,}", _number(row["hidden_dim"], 1, "d")]
    cells.append(_number(row["flops"], 1e-6, ".2f"))
    cells += [_number(row[key], 1, ".1f") for key in ("step_ms", "latency_ms", "peak_mb")]
    return f"| {' | '.join(cells)} |"


def _number(value: Any, scale: float, form: str) -> str:
    return "" if value is None else f"{value * scale:{form}}"


def pyplot() -> Any:
    """Returns matplotlib's figure class, or raises with the extra that brings it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The picture of a comparison needs matplotlib: pip install 'mmkeras[plot]'."
        ) from error
    return Figure


def picture(rows: list[dict], metric: str, default: str, path: Path) -> None:
    """Draws mean and interval of every row against operations and against time of a step."""
    figure = pyplot()(figsize=(13, 6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, scale, label in (
        (axes[0], "flops", 1e-6, "MFLOP of the forward pass of a sample"),
        (axes[1], "step_ms", 1, "ms of a training step"),
    ):
        for row in rows:
            if row[key] is None:
                axis.axhline(row["mean"], color="grey", linestyle=":", label=row["row"])
                continue
            low, high = row["interval"]
            colour = "tab:red" if row["row"] == default else "tab:blue"
            error = [[row["mean"] - low], [high - row["mean"]]]
            at = (row[key] * scale, row["mean"])
            axis.errorbar(*at, yerr=error, fmt="o", color=colour, markersize=4, linewidth=0.8)
            axis.annotate(row["row"], at, (4, 3), textcoords="offset points", fontsize=7)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.legend(loc="lower right", fontsize=7) if axis.get_legend_handles_labels()[0] else None
    axes[0].set_ylabel(f"{metric}, {rows[0]['split']}")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=150, format="png")
    files.write_bytes(path, drawn.getvalue())
