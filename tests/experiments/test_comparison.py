"""What the comparison reads of each task, and the renewed windows of mosi."""

import json

import numpy as np
import pytest

import mmkeras as mk
from experiments import compare, mosi

FOLDERS = {"av_digits": "avmnist"}


def test_windows_stay_in_their_video():
    features = np.arange(10, dtype="float32")[:, None]
    video = np.array(["a"] * 4 + ["b"] * 6)
    found = np.stack(mosi.windows(features, video, 2))
    assert found.shape == (10, 5, 2)
    np.testing.assert_array_equal(found[3, :, 0], [1, 2, 3, np.nan, np.nan])
    np.testing.assert_array_equal(found[4, :, 0], [np.nan, np.nan, 4, 5, 6])
    np.testing.assert_array_equal(found[3, :3, 1], [0, 0, 1])


def test_renewed_features_tell_the_label_as_often_as_asked(rng):
    label = rng.integers(0, 2, 4000)
    features = np.where(label == 1, 1.0, -1.0)[:, None]
    found = mosi.renewed(features, label, 0.75, rng)[:, 0]
    assert np.mean((found > 0) == (label == 1)) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("task", compare.TASKS)
def test_tasks(data_dir, task):
    made = compare.TASKS[task](data_dir / FOLDERS.get(task, task), True)
    for split in made.get("splits", ("valid",)):
        x, y = next(iter(made["data"].batches(split, 4)))
        assert set(y) == set(made["heads"])
        assert [name for name in x if not name.endswith("_mask")] == list(made["encoders"])
        for name in made["encoders"]:
            if split == f"test_without_{name}":
                assert not np.any(x[f"{name}_mask"])


def test_command(tmp_path, monkeypatch):
    data = mk.data.table(
        {"a": np.eye(4, 2), "b": np.eye(4, 3), "y": list("abab")},
        {"a": mk.Vector(size=2), "b": mk.Vector(size=3)},
        "y",
    )
    heads = {"y": mk.heads.Classifier(data.classes)}
    task = {"data": data, "encoders": {}, "heads": heads, "recipe": {"epochs": 7, "batch": 2}}
    given = {}
    monkeypatch.setattr(compare, "TASKS", {"tiny": lambda folder, quick: task})
    monkeypatch.setattr(compare.mk, "compare", lambda **held: given.update(held) or {"rows": []})
    arguments = ["--task", "tiny", "--data", ".", "--out", str(tmp_path), "--fusions", "sum,gated"]
    monkeypatch.setattr("sys.argv", ["compare", *arguments, "--epochs", "3", "--drop", "0.2"])
    compare.main()
    assert given["fusions"] == ("late_transformer", "sum", "gated")
    assert given["recipe"] == {"epochs": 3, "batch": 2, "drop": 0.2}
    assert given["seeds"] == [0, 1, 2, 3, 4]
    model = mk.assemble(data.modalities, {}, "late_transformer", heads, hidden_dim=64)
    assert given["parameters"] == model.count_params()
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["name"] == "compare_tiny" and "--drop 0.2" in result["command"]
    assert result["commit"] and result["versions"]["keras"]
