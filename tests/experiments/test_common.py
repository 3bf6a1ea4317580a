"""Intervals, resumable rows, majority; the official files through file:// archives."""

import argparse
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from experiments import common, official


def test_interval_is_students():
    values = [0.90, 0.92, 0.97]
    scipy_stats = pytest.importorskip("scipy.stats")
    low, high = scipy_stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy_stats.sem(values))
    np.testing.assert_allclose(common.interval(values), [low, high], rtol=1e-9)
    assert common.interval([0.5]) == [0.5, 0.5]


def test_majority_is_learnt_from_the_reference():
    assert common.majority(np.array([0, 1, 1, 2]), np.array([2, 2, 1])) == 0.25


def test_finished_rows_are_not_measured_again(tmp_path):
    args = argparse.Namespace(out=tmp_path, quick=False)
    calls = []

    def measure(folder):
        calls.append(folder)
        return {"parameters": 7, "values": {"accuracy/test": 0.5 + 0.1 * len(calls)}}

    for _ in range(2):
        results = common.Results("thing", args)
        for seed in (0, 1):
            results.run("row", seed, measure)
        result = results.save()
    assert len(calls) == 2
    (row,) = result["rows"]
    assert row["values"] == [0.6, 0.7] and row["mean"] == pytest.approx(0.65)
    assert json.loads((tmp_path / "result.json").read_text())["rows"][0]["parameters"] == 7


def test_easy_vqa_download_checks_the_contents(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    source, packed = data_dir / "easy_vqa", tmp_path / "official.zip"
    with zipfile.ZipFile(source / "images.zip") as held, zipfile.ZipFile(packed, "w") as out:
        for name in held.namelist():
            if name.endswith(".png"):
                split, file = name.split("/")
                out.writestr(
                    f"easy-VQA-3b553bb7/easy_vqa/data/{split}/images/{file}", held.read(name)
                )
        for split in ("train", "test"):
            text = (source / f"{split}_questions.json").read_text()
            out.writestr(f"easy-VQA-3b553bb7/easy_vqa/data/{split}/questions.json", text)
    monkeypatch.setattr(official, "EASY_VQA", packed.as_uri())
    monkeypatch.setattr(official.keras.utils, "get_file", lambda name, origin: str(packed))
    folder = tmp_path / "set"
    official.easy_vqa(folder)
    with (
        zipfile.ZipFile(folder / "images.zip") as got,
        zipfile.ZipFile(source / "images.zip") as held,
    ):
        assert got.read("train/7.png") == held.read("train/7.png")
        assert len(got.namelist()) == 4500
    triples = json.loads((folder / "train_questions.json").read_text())
    assert triples == json.loads((source / "train_questions.json").read_text())

    monkeypatch.setattr(official, "EASY_VQA_TRAIN", "0" * 64)
    with pytest.raises(ValueError, match="must be the official ones.*fetch the set by hand"):
        official.easy_vqa(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_pairs_follow_the_rule(tmp_path):
    labels = np.arange(50) % 10
    official._pair(tmp_path / "pairs.csv", labels, 100, range(5, 10))
    lines = Path(tmp_path / "pairs.csv").read_text().splitlines()[1:]
    assert len(lines) == 50
    for index, line in enumerate(lines):
        number, wav, label = line.split(",")
        digit, speaker, take = wav.removesuffix(".wav").split("_")
        assert int(number) == 100 + index and digit == label == str(labels[index])
        assert speaker in official.SPEAKERS and 5 <= int(take) < 10
