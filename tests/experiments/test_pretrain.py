"""Pretraining and finetuning on a slice of the real data, and what is labelled."""

import numpy as np

import mmkeras as mk
from experiments import pretrain
from tests.experiments.test_real_data import check_result, run


def test_parts_of_the_labels_lie_in_each_other():
    rows = {"numbers": list(np.arange(200.0)), "kind": ["a", "b"] * 100}
    data = mk.data.table(rows, {"numbers": mk.Vector(normalize=False)}, "kind")
    held = [
        set(
            pretrain.labelled(data, share, seed=1)
            .raw("train", range(round(200 * share)))["numbers"]
            .ravel()
        )
        for share in (0.1, 0.4)
    ]
    assert [len(part) for part in held] == [20, 80] and held[0] < held[1]


def test_tuning_holds_out_whole_pictures(data_dir):
    splits = pretrain.load(data_dir / "easy_vqa", tune=True, quick=False)
    pictures = {name: set(part["picture"]) for name, part in splits.items()}
    assert not pictures["train"] & pictures["valid"] and len(pictures["valid"]) == 500


def test_all_but_the_head_is_taken_over():
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
    heads = {"match": mk.objectives.Contrastive(4), "pairing": mk.objectives.Matching("match")}
    source = mk.assemble(specs, None, "film", heads)
    model = mk.assemble(specs, None, "film", {"answer": mk.heads.Classifier(("no", "yes"))})
    before = {weight.path: weight.numpy() for weight in model.weights}
    pretrain.start(model, source)
    held = {weight.path: weight.numpy() for weight in source.weights}
    new = {weight.path for weight in model.weights if weight.path not in held}
    assert new == {"answer/dense/kernel", "answer/dense/bias"}
    for weight in model.weights:
        expected = before if weight.path in new else held
        np.testing.assert_array_equal(weight.numpy(), expected[weight.path])
    assert any(not np.array_equal(before[path], held[path]) for path in before.keys() - new)


def test_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "easy_vqa", "--out", tmp_path, "--quick", "--seeds", "0")
    run("pretrain", *arguments, "--rows", "pretrained")
    rows = check_result(tmp_path, "pretrain", ["pretrained", "majority"])
    assert {split for row, split in rows if row == "pretrained"} == {
        f"test, {share}" for share in pretrain.SHARES
    }
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert (tmp_path / "quick" / "pretrained-0" / "pretrained.keras").exists()
