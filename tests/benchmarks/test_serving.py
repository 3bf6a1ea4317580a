"""The benchmark of serving: equal weights on all sides, a quick run, a short soak."""

import json

import numpy as np
import pytest

from benchmarks import common
from benchmarks import serving as bench


def torch_missing():
    try:
        common.need("torch")
    except ImportError:
        return True
    return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("serving") / "model"
    bench.export(str(made))()
    return made


def test_everybody_answers_the_same(folder):
    raw = bench.requests(2)
    answers = {
        model: bench.load(str(folder / model), "serving_default")(raw)["answer"]
        for model in ("float32", "xla", "bfloat16")
    }
    np.testing.assert_allclose(answers["xla"], answers["float32"], atol=5e-6)
    np.testing.assert_allclose(answers["bfloat16"], answers["float32"], atol=0.02)
    if not torch_missing():  # raises unless PyTorch's logits are Keras'
        job = {"quick": True, "rounds": 1, "size": 2}
        for kind in ("raw", "tensors"):
            assert bench.torch(str(folder), kind=kind, channels_last=True, **job)() > 0
        with np.load(folder / "weights.npz") as held:
            np.savez(folder / "wrong.npz", **{**held, "answer": held["answer"] + 1})
        from benchmarks import torch_serving

        with pytest.raises(ValueError, match="PyTorch's output differs from mmkeras' by 1"):
            torch_serving.model(folder / "wrong.npz", bench.decoded(bench.requests(8)))


def test_soak_counts_and_weighs(folder):
    work = bench.soak(str(folder), minutes=0.02)
    served, sent, before, after = (work() for _ in range(4))
    assert served == sent > 0 and before > 50 and after > 50


def test_quick_run(folder, capsys):
    (folder / "stale").touch()
    result = bench.main(["--out", str(folder.parent), "--quick", "--only", "raw, 1"])
    assert json.loads((folder.parent / "result.json").read_text()) == result
    rows = {row["row"]: row for row in result["rows"]}
    assert rows["raw, 1: predict, p50"]["target"] == 15 and rows["raw, 1: predict, p99"]["ours"] > 0
    name = f"raw, 1: {bench.BEST}, p50"
    assert rows[name]["note"] if torch_missing() else rows[name]["ratio"] > 0
    assert not (folder / "stale").exists(), "an export of another commit is not measured"
    for figure in (bench.ALONE, bench.TOGETHER):
        assert rows[f"raw, 1: predict, {figure}"]["ours"] > 0
    assert "| raw, 1: predict, p99 |" in capsys.readouterr().out
