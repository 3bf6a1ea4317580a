"""The experiments on series and tables, on slices of the real data."""

import json

import numpy as np
import pytest

from experiments import common, hapt, mfeat
from tests.experiments.test_real_data import check_result, run


def test_hapt_quick(data_dir, tmp_path):
    rows = ["film"]
    arguments = ("--data", data_dir / "hapt", "--out", tmp_path, "--quick", "--seeds", "0")
    run("hapt", *arguments, "--rows", ",".join(rows))
    check_result(tmp_path, "hapt", [*rows, "majority"])
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_mfeat_quick(data_dir, tmp_path):
    rows = ["all"]
    arguments = ("--data", data_dir / "mfeat", "--out", tmp_path, "--quick", "--seeds", "0")
    run("mfeat", *arguments, "--rows", ",".join(rows))
    check_result(tmp_path, "mfeat", [*rows, "majority"])
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_hapt_is_split_by_subject_as_published(data_dir):
    splits = hapt.load(data_dir / "hapt", quick=False)
    assert {split: len(part["activity"]) for split, part in splits.items()} == {
        "train": 5860 + 5549,
        "val": 1907,
    }
    assert len(set(splits["train"]["activity"])) == 12
    for part in splits.values():
        for sensor in hapt.BOTH:
            assert {window.shape for window in part[sensor]} == {(128, 3)}
    # In g: gravity is what the accelerometer measures most of.
    assert np.linalg.norm(splits["val"]["acc"], axis=-1).mean() == pytest.approx(1.0, abs=0.05)


def test_mfeat_holds_out_the_last_fifth_of_every_class(data_dir):
    splits = mfeat.load(data_dir / "mfeat", quick=False)
    digits, counts = np.unique(splits["val"]["digit"], return_counts=True)
    assert len(digits) == 10 and set(counts) == {30}
    assert len(splits["train"]["digit"]) == 1200
    data = mfeat.table(splits, ("mor", "picture"), 0)
    x, _ = next(iter(data.valid(300)))
    with np.load(data_dir / "mfeat" / "train.npz") as file:
        held, label = file["mor"].astype("float64"), file["label"]
    last = np.sort(np.concatenate([np.flatnonzero(label == d)[-30:] for d in range(10)]))
    train = np.setdiff1d(np.arange(len(label)), last)
    expected = (held[last] - held[train].mean(axis=0)) / held[train].std(axis=0)
    np.testing.assert_allclose(x["mor"], expected, atol=1e-5)
    truth = {split: held.truth["digit"] for split, held in data.splits.items()}
    assert common.majority(truth["valid"], truth["train"]) == pytest.approx(0.1)
