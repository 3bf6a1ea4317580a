"""The table of the fusions: peers of one formula, memory, and a quick run."""

import json

import numpy as np
import pytest

from benchmarks import common
from benchmarks import fusion as bench
from mmkeras.fusion import FUSIONS


def torch_fusions():
    """The module of the peers, or None without PyTorch."""
    try:
        common.need("torch")
    except ImportError:
        return None
    from benchmarks import torch_fusions

    return torch_fusions


def test_peers_have_our_weights_and_our_output(tmp_path):
    assert set(bench.PEERS) <= set(FUSIONS) and len(bench.PEERS) >= 12
    job = {"folder": str(tmp_path), "figures": [], "sizes": bench.QUICK, "rounds": 0}
    for side in (bench.ours, bench.torch) if torch_fusions() else (bench.ours,):
        with pytest.raises(StopIteration):  # all are made, and checked; nothing is measured
            side(names=list(bench.PEERS), **job)()
    for name in bench.PEERS:
        with np.load(tmp_path / f"{name}.npz") as held:
            assert held["pooled"].shape == (4, 8) and np.ptp(held["pooled"], axis=0).min() > 0
            assert sum(path.endswith("_projection/kernel") for path in held.files) == 3
    if torch_fusions():
        assert set(torch_fusions().FUSIONS) == set(bench.PEERS)
        with np.load(tmp_path / "gated.npz") as held:
            np.savez(tmp_path / "gated.npz", **{**held, "pooled": held["pooled"] + 1.0})
        with pytest.raises(ValueError, match="gated: PyTorch's output differs from mmkeras' by 1"):
            bench.torch(names=["gated"], **job)()


def test_peak_is_that_of_what_was_held():
    def work():
        return np.ones(2**24, "uint8").sum() + np.ones(2**25, "uint8").sum()

    assert 31 < bench.peak(work) < 50  # one after the other, not both


def test_quick_run(tmp_path, capsys):
    result = bench.main(["--out", str(tmp_path), "--quick"])
    assert json.loads((tmp_path / "result.json").read_text()) == result
    rows = {row["row"]: row for row in result["rows"]}
    assert set(rows) == {
        f"{name}: {figure}"
        for name in bench.QUICK_NAMES
        for figure in ("forward", "step", "memory")
    }
    assert all(row["ours"] > 0 and row["rounds"] in (0, 1) for row in rows.values())
    assert rows["max_pooling: step"]["peer"] is None
    if torch_fusions():
        assert rows["gated: step"]["ratio"] > 0 and rows["gated: memory"]["unit"] == "MiB"
    else:
        assert "mmkeras[bench]" in rows["gated: step"]["note"]
    assert "| gated: forward |" in capsys.readouterr().out
