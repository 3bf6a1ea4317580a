"""The experiments on slices of the real data, through the same command a user gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmkeras as mk
from experiments import av_digits, common, easy_vqa, esc10, grid_digits, grocery, multi_task

ROOT = Path(__file__).parents[2]


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_result(folder, name, expected_rows, metrics=("accuracy",)):
    result = json.loads((folder / "result.json").read_text())
    assert result["name"] == name and result["commit"] and result["versions"]["keras"]
    assert {row["row"] for row in result["rows"]} == set(expected_rows)
    for row in result["rows"]:
        low, high = row["interval"]
        assert 0 <= row["mean"] <= 1 and low <= row["mean"] <= high
        assert row["metric"] in metrics and len(row["values"]) >= 1
    return {(row["row"], row["split"]): row for row in result["rows"]}


def test_easy_vqa_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "easy_vqa", "--out", tmp_path, "--quick", "--seeds", "0")
    run("easy_vqa", *arguments)
    rows = check_result(tmp_path, "easy_vqa", ["film", "question_only", "image_only", "majority"])
    assert all(row["parameters"] <= 136_000 for row in rows.values())
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()
    parity = json.loads((tmp_path / "parity.json").read_text())
    # 32 real rows; logits of about 5. Measured 1e-6.
    assert max(parity["largest_absolute_difference"].values()) < 1e-4
    again = run("easy_vqa", *arguments, "--rows", "film")
    assert "Epoch" not in again, "a finished row was trained again"


def test_av_digits_quick(data_dir, tmp_path):
    run(
        "av_digits",
        "--data",
        data_dir / "avmnist",
        "--out",
        tmp_path,
        "--quick",
        "--seeds",
        "0",
        "--rows",
        "image_only,late_transformer_dropped",
    )
    dropped = "late_transformer_dropped"
    rows = check_result(tmp_path, "av_digits", ["image_only", dropped, "majority"])
    assert (dropped, "test, half of audio missing") in rows
    assert (dropped, "test, all but audio missing at 1") in rows
    assert (tmp_path / "quick" / f"{dropped}-0" / "missing.png").exists()
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_esc10_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "esc10", "--out", tmp_path, "--quick", "--seeds", "0")
    run("esc10", *arguments, "--rows", "log_mel_cnn,mfcc_crnn")
    rows = check_result(tmp_path, "esc10", ["log_mel_cnn", "mfcc_crnn", "majority"])
    assert ("log_mel_cnn", "fold 4") in rows and ("mfcc_crnn", "mean") in rows
    assert rows["majority", "mean"]["mean"] == pytest.approx(0.1)
    assert len(list((tmp_path / "wav").glob("*.wav"))) == 320
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_esc10_is_read_as_published(data_dir):
    parts = esc10.folds(data_dir / "esc10", Path("wav"), quick=False)
    assert {fold: len(part["label"]) for fold, part in parts.items()} == dict.fromkeys("1234", 80)
    for part in parts.values():
        assert {part["label"].count(name) for name in part["label"]} == {8}


def test_half_the_rate_keeps_what_is_below_and_drops_what_is_above():
    t = np.arange(44_100) / 44_100
    for frequency, kept in ((1000, 1.0), (8000, 1.0), (14_000, 0.0), (20_000, 0.0)):
        out = esc10.halved(np.sin(2 * np.pi * frequency * t))[200:-200]
        assert abs(np.abs(out).max() - kept) < 0.02, frequency


def test_grocery_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "grocery", "--out", tmp_path, "--quick", "--seeds", "0")
    run("grocery", *arguments, "--rows", "resnet,vit")
    result = json.loads((tmp_path / "result.json").read_text())
    metrics = ("fine accuracy", "coarse accuracy")
    check_result(tmp_path, "grocery", ["resnet", "vit", "majority"], metrics)
    assert {row["metric"] for row in result["rows"]} == set(metrics)
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_multi_task_quick(data_dir, tmp_path):
    rows = ("grocery_fine", "grocery_pcgrad", "easy_vqa_gradnorm")
    arguments = ("--data", data_dir, "--out", tmp_path, "--quick", "--seeds", "0")
    run("multi_task", *arguments, "--rows", ",".join(rows))
    result = json.loads((tmp_path / "result.json").read_text())
    found = {(row["row"], row["metric"]): row["mean"] for row in result["rows"]}
    assert {row for row, _ in found} == set(rows)
    assert ("grocery_fine", "coarse accuracy") not in found
    for row, task in (("grocery_pcgrad", "coarse"), ("easy_vqa_gradnorm", "asked")):
        assert 0.0 <= found[row, f"{task} accuracy"] <= 1.0
        assert -1.0 <= found[row, "cosine"] <= 1.0
    assert found["grocery_pcgrad", "fine weight"] == 1.0
    weights = [found["easy_vqa_gradnorm", f"{task} weight"] for task in ("answer", "asked")]
    assert sum(weights) == pytest.approx(2.0, abs=1e-4) and weights[0] != 1.0


def test_variants_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir, "--quick", "--seeds", "0")
    run("multi_task", *arguments, "--out", tmp_path, "--rows", "easy_vqa_fixed")
    out = tmp_path / "variants"
    run("variants", *arguments, "--runs", tmp_path, "--out", out, "--rows", "easy_vqa")
    result = json.loads((out / "result.json").read_text())
    found = {
        (row["row"].removeprefix("easy_vqa_"), row["metric"]): row["mean"] for row in result["rows"]
    }
    assert found["float32", "answer_accuracy lost"] == 0.0
    assert found["float32", "bytes"] == 1.0 and 0.5 < found["int8", "bytes"] < 0.9


def test_what_a_question_asks_for():
    kinds = {
        "what is the blue shape?": "shape",
        "what is the color of the circle?": "colour",
        "is a teal shape present?": "presence",
        "does the image not contain a red shape?": "absence",
        "is no yellow shape present?": "absence",
    }
    assert {question: multi_task.asked(question) for question in kinds} == kinds


def test_grocery_is_read_as_published(data_dir):
    data = grocery.load(data_dir / "grocery", quick=False, seed=0)
    assert {split: len(held) for split, held in data.splits.items()} == {
        "train": 2640,
        "valid": 296,
    }
    assert len(data.targets["fine"].classes) == 81


def test_easy_vqa_is_read_as_published(data_dir):
    folder = data_dir / "easy_vqa"
    data = easy_vqa.load(
        folder, easy_vqa.ROWS["film"]["modalities"], tune=False, quick=True, seed=0
    )
    assert data.classes == tuple(sorted((folder / "answers.txt").read_text().split()))
    full = easy_vqa.questions(folder, "train")
    assert len(full["answer"]) == 38_575 and len(set(full["image"])) == 4000
    test = easy_vqa.questions(folder, "test")
    assert not set(test["image"]) & set(full["image"])
    answers = [np.array(part["answer"]) for part in (full, test)]
    codes = [np.searchsorted(data.classes, a).astype(np.int32) for a in answers]
    assert common.majority(codes[1], codes[0]) == pytest.approx(0.369, abs=5e-4)


def test_degraded_pictures_keep_four_components_and_sounds_their_snr(data_dir):
    train = av_digits.pictures(data_dir / "avmnist", "train")
    assert train.shape == (60_000, 28, 28)
    mean, components = av_digits.principal(train[:55_000])
    assert components.shape == (4, 784)
    np.testing.assert_allclose(components @ components.T, np.eye(4), atol=1e-10)
    flat = train[:2000].reshape(2000, -1) - mean
    rebuilt = av_digits.blurred(train[:2000], mean, components).reshape(2000, -1) - mean
    # What is left lies in the four components, up to clipping and rounding.
    rest = rebuilt - rebuilt @ components.T @ components
    assert np.square(rest).sum() < 0.1 * np.square(rebuilt).sum()
    assert np.square(rebuilt).sum() < 0.35 * np.square(flat).sum()

    rng = np.random.default_rng(0)
    spoken = np.sin(np.arange(5000) * 0.3) * 0.5
    window = np.concatenate([spoken, np.zeros(3000)])
    mixed = np.stack([av_digits.noisy(spoken, rng) for _ in range(20)])
    assert mixed.dtype == np.float32 and mixed.shape == (20, 8000)
    np.testing.assert_allclose(np.abs(mixed).max(axis=1), 0.9, atol=1e-4)
    np.testing.assert_array_equal(mixed * 32768, np.round(mixed * 32768))
    gain = (mixed @ window / (window @ window))[:, None]
    noise = mixed - gain * window
    snr = 10 * np.log10(np.mean((gain * window) ** 2) / np.mean(noise**2))
    assert snr == pytest.approx(-5.0, abs=0.2)
    assert np.std(noise[:, 5000:]) == pytest.approx(np.std(noise[:, :5000]), rel=0.05)


def test_grid_digits_quick(data_dir, tmp_path):
    run(
        "grid_digits",
        "--data",
        data_dir / "grid_digits",
        "--out",
        tmp_path,
        "--quick",
        "--seeds",
        "0",
        "--rows",
        "lips_only_r2plus1d,concatenation",
    )
    rows = check_result(
        tmp_path, "grid_digits", ["lips_only_r2plus1d", "concatenation", "majority"]
    )
    assert {split for _, split in rows} == {"val"}
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert max(parity["largest_absolute_difference"].values()) < 1e-4


def test_spoken_digits_get_their_noise(data_dir):
    splits = grid_digits.load(data_dir / "grid_digits", -10.0, quick=False)
    assert {split: len(part["digit"]) for split, part in splits.items()} == {
        "train": 694 * grid_digits.COPIES,
        "val": 100,
    }
    assert not np.array_equal(splits["train"]["audio"][0], splits["train"]["audio"][694])
    assert splits["train"]["digit"][:694] == splits["train"]["digit"][694:1388]
    assert sorted(set(splits["val"]["digit"])) == [str(digit) for digit in range(10)]
    with np.load(data_dir / "grid_digits" / "train_val.npz") as held:
        clean = held["audio"][held["split"] == "val"] / 32768.0
    ratios = []
    for wave, mixed in zip(clean, splits["val"]["audio"], strict=True):
        gain = (mixed @ wave) / (wave @ wave)
        ratios.append(np.mean((gain * wave) ** 2) / np.mean((mixed - gain * wave) ** 2))
    assert 10 * np.log10(np.mean(ratios)) == pytest.approx(-10.0, abs=0.2)
    again = grid_digits.load(data_dir / "grid_digits", -10.0, quick=True)
    np.testing.assert_array_equal(again["train"]["audio"][5], splits["train"]["audio"][5])


def test_check_on_real_rows(data_dir):
    folder = data_dir / "easy_vqa"
    splits = {s: easy_vqa.questions(folder, s) for s in ("train", "test")}
    few = {s: {k: v[:200] for k, v in part.items()} for s, part in splits.items()}
    report = mk.data.check(
        few["train"],
        {"image": mk.Image(size=64), "question": mk.Text(length=12)},
        {"answer": mk.Label(classes=(folder / "answers.txt").read_text().split())},
        valid=few["test"],
        archive=folder / "images.zip",
    )
    assert report.ok and report.rows == {"train": 200, "valid": 200}
    assert report.duplicates[("train", "valid")]["image"] == 0
    assert report.duplicates[("train", "valid")]["question"] > 100
