"""Contenders in processes of their own, alternating rounds, ratios, missing peers, the table."""

import json
import os

import pytest

from benchmarks import common


def counting(path, start):
    """A contender: appends its name to a file, returns start, start + 1, ..."""
    print("set up")  # must not be taken for an answer
    numbers = iter(range(start, 100))

    def work():
        with open(path, "a") as file:
            file.write(f"{start} {len(os.sched_getaffinity(0))}\n")
        return next(numbers)

    return work


def broken():
    common.need("no_such_module")


HERE = "tests.benchmarks.test_common"


def test_rounds_alternate_and_ratios_are_of_the_same_round(tmp_path):
    file = str(tmp_path / "order")
    ours = common.Contender(f"{HERE}:counting", cores=1, path=file, start=4)
    peers = {
        "higher": (common.Contender(f"{HERE}:counting", cores=1, path=file, start=2), 1.5),
        "missing": (common.Contender(f"{HERE}:broken"), 2.0),
    }
    first, second = common.compare(ours, peers, unit="items/s", rounds=3)
    assert (tmp_path / "order").read_text().split("\n")[:-1] == ["4 1", "2 1"] * 3
    assert (first["ours"], first["peer"], first["target"], first["rounds"]) == (5, 3, 1.5, 3)
    assert (first["ratio"], first["min"], first["max"]) == (5 / 3, 6 / 4, 4 / 2)
    assert first["ours_cpu_seconds"] >= 0.0
    assert second["peer"] is None and second["ratio"] is None
    assert "'mmkeras[bench]'" in second["note"] and "no_such_module" in second["note"]


def test_lower_is_better_turns_the_ratio_around():
    made = common.row("seconds", [2.0], [6.0], "s", 1.0, lower_is_better=True)
    assert made["ratio"] == 3.0


def test_a_contender_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match="ended with code 1"):
        with common.Contender(f"{HERE}:counting", path=None):
            pass


def test_result_and_table(tmp_path, capsys):
    args = common.arguments("doc", ["--out", str(tmp_path / "new"), "--quick"])
    assert args.rounds == 1
    results = common.Results("thing", args)
    results.add(common.row("met", [3.0], [1.0], "x/s", 2.0))
    results.add(common.row("missed", [1.0], [1.0], "x/s", 2.0))
    results.add({**common.row("absent", [1.0], [], "x/s", 2.0), "note": "why"})
    result = results.save()
    assert json.loads((tmp_path / "new" / "result.json").read_text()) == result
    assert {"command", "commit", "machine", "versions", "load_before", "load_after"} <= set(result)
    table = common.markdown(result)
    assert table in capsys.readouterr().out
    assert "| met | 3 | 1 | x/s | 3.00 [3.00, 3.00] | 2 | met |" in table
    assert "| missed | 1 | 1 | x/s | 1.00 [1.00, 1.00] | 2 | missed |" in table
    assert "| absent | 1 | why | x/s | not measured | 2 |  |" in table
