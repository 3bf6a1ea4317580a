"""`mk.training.search`: resumes, keeps to its space, logs to HParams; its refusals."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import recipe

SPACE = {
    "fusion": ["concatenation", {"name": "gated"}],
    "hidden_dim": (8, 24),
    "rate": (1e-3, 1e-1),
    "encoders.a": [{"name": "mlp", "hidden_dim": 4}, {"name": "mlp", "hidden_dim": 6}],
}


def small(rng, count=32):
    kind = rng.integers(0, 2, count)
    columns = {name: rng.normal(size=(count, 2)) + kind[:, None] for name in ("a", "b")}
    specs = {name: mk.Vector(size=2) for name in columns}
    return mk.data.table({**columns, "kind": kind.astype(str)}, specs, "kind", valid=0.25)


DATA = small(np.random.default_rng(0))


def searched(out, **kwargs):
    given = {"space": SPACE, "trials": 3, "recipe": {"epochs": 1, "batch": 8}, **kwargs}
    return mk.training.search(DATA, None, {"kind": mk.heads.Classifier(2)}, out=out, **given)


def test_a_killed_search_goes_on(tmp_path, monkeypatch):
    train, rates = recipe.train, []

    def counted(model, data, numbers, **kwargs):
        rates.append(numbers["rate"])
        if len(rates) == 2:
            raise SystemExit
        return train(model, data, numbers, **kwargs)

    monkeypatch.setattr(recipe, "train", counted)
    with pytest.raises(SystemExit):
        searched(tmp_path)
    found = searched(tmp_path)
    assert rates[1] == rates[2] and len(rates) == 4, "the trial that was killed is run again"
    assert json.loads((tmp_path / "trials.json").read_text()) == found and len(found) == 3
    assert {trial["values"]["rate"] for trial in found} == set(rates)
    assert [t["score"] for t in found] == sorted((t["score"] for t in found), reverse=True)
    for trial in found:
        values = trial["values"]
        assert values["fusion"] in SPACE["fusion"] and values["encoders.a"] in SPACE["encoders.a"]
        assert 8 <= values["hidden_dim"] <= 24 and values["hidden_dim"] % 8 == 0
        assert 1e-3 <= values["rate"] <= 1e-1 and trial["parameters"] > 0
    tags = [
        value.tag
        for file in (tmp_path / "logs").rglob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert tags.count("_hparams_/session_start_info") == tags.count("valid/accuracy") == 3
    assert tags.count("_hparams_/experiment") == 1
    with pytest.raises(ValueError, match="same settings. Received: space"):
        searched(tmp_path, space={"rate": (1e-3, 1e-2)})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"space": {"width": [1]}}, "Unknown key 'width' in `space`"),
        ({"space": {"encoders.c": ["mlp"]}}, "Did you mean 'encoders"),
        ({"space": {"rate": (0, 1e-2)}}, "above 0. Received: \\(0, 0.01\\)"),
        ({"space": {"fusion": "film"}}, "must be a list of choices.*Received: 'film'"),
        ({"space": {}}, "must hold something to search"),
        ({"method": "grid"}, "`method` must be one of"),
    ],
)
def test_refusals(tmp_path, change, text):
    with pytest.raises(ValueError, match=text):
        searched(tmp_path, **change)


def test_a_finished_fusion_is_refused(tmp_path):
    made = mk.fusion.SumFusion(["a", "b"])
    with pytest.raises(TypeError, match="fusion must be made anew"):
        searched(tmp_path, recipe={"fusion": made}, space={"rate": (1e-3, 1e-2)})


def test_without_keras_tuner(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ImportError, match="mmkeras\\[search\\]"):
        searched(tmp_path)
