"""`mk.compare`: an interrupted comparison goes on, its tables, its refusals; what it counts."""

import csv
import dataclasses
import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.layers.masking import masked_mean
from mmkeras.training import memory, recipe, settings, task
from mmkeras.training.baseline import constant
from mmkeras.training.cost import forward_flops
from mmkeras.training.width import widest

RECIPE = {"epochs": 1, "batch": 16, "drop": {"a": 0.2}}


@mk.register
class LargestFusion(mk.fusion.Fusion):
    """A fusion of one's own: the largest of the modalities' means."""

    def fuse(self, tokens, masks, present, training):
        means = [masked_mean(tokens[m], masks[m]) for m in self.modalities]
        pooled = keras.ops.max(keras.ops.stack(means, axis=1), axis=1)
        mask = keras.ops.ones_like(present[:, :1])
        return {"tokens": pooled[:, None], "mask": mask, "pooled": pooled}

    def output_length(self, lengths):
        return 1


def small(rng, count=48):
    """Two vectors, neither of which tells all three classes apart."""
    kind = rng.integers(0, 3, count)
    one_hot = np.eye(3, dtype="float32")[kind]
    noise = rng.normal(scale=0.2, size=(2, count, 2)).astype("float32")
    columns = {"a": one_hot[:, :2] + noise[0], "b": one_hot[:, 1:] + noise[1]}
    specs = {name: mk.Vector(size=2) for name in columns}
    target = [f"class {k}" for k in kind]
    return mk.data.table({**columns, "kind": target}, specs, "kind", valid=0.25)


DATA = small(np.random.default_rng(0))


def compared(out, **kwargs):
    given = {
        "fusions": ("concatenation", LargestFusion),
        "heads": {"kind": mk.heads.Classifier(DATA.classes)},
        "seeds": (0, 1),
        "parameters": 12_000,
        "recipe": RECIPE,
        "default": "concatenation",
        **kwargs,
    }
    return mk.compare(given.pop("data", DATA), out=out, **given)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison that is interrupted in its sixth run, and started again."""
    out, train, trained = tmp_path_factory.mktemp("compared"), recipe.train, []

    def counted(model, data, *args, **kwargs):
        trained.append((tuple(data.modalities), data.seed))
        if len(trained) == 6:
            raise SystemExit
        return train(model, data, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "train", counted)
        patch.setattr(memory, "step_memory", lambda model, batch: 1.5)
        with pytest.raises(SystemExit):
            compared(out)
        return out, compared(out), trained


def test_an_interrupted_comparison_goes_on(finished):
    _, _, trained = finished
    both = ("a", "b")
    rows = [both, both, ("a",), ("b",)]
    once = [(names, seed) for seed in (0, 1) for names in rows]
    assert trained == [*once[:6], *once[5:]]


def test_rows(finished):
    _, result, _ = finished
    rows = {row["row"]: row for row in result["rows"]}
    assert set(rows) == {"concatenation", "LargestFusion", "a_only", "b_only", "majority"}
    for name, row in rows.items():
        if name == "majority":
            continue
        assert len(row["values"]) == 2 and row["mean"] == pytest.approx(np.mean(row["values"]))
        assert 0 < row["parameters"] <= 12_000 and row["hidden_dim"] % 8 == 0
        assert row["flops"] > 1000 and row["step_ms"] > 0 and row["latency_ms"] > 0
        assert row["peak_mb"] == 1.5
        if name != "concatenation":
            test = row["against_default"]
            gaps = np.subtract(row["values"], rows["concatenation"]["values"])
            assert test["difference"] == pytest.approx(gaps.mean())
            assert 0 <= test["p"] <= test["p_holm"] <= 1
    assert rows["concatenation"]["against_default"] is None
    assert [row["mean"] for row in result["rows"]] == sorted(
        (row["mean"] for row in result["rows"]), reverse=True
    )


def test_files(finished):
    out, result, _ = finished
    assert json.loads((out / "result.json").read_text()) == result
    table = list(csv.DictReader((out / "table.csv").open()))
    assert [row["row"] for row in table] == [row["row"] for row in result["rows"]]
    assert float(table[0]["mean"]) == result["rows"][0]["mean"]
    text = (out / "table.md").read_text()
    assert all(f"| {row['row']} |" in text for row in result["rows"])
    assert (out / "quality_against_cost.png").read_bytes().startswith(b"\x89PNG")
    written = {}
    for file in (out / "logs").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                written.setdefault(value.tag, []).append(file.parent.name)
    assert len(written["_hparams_/session_start_info"]) == 8
    assert len(written["_hparams_/experiment"]) == 1
    assert len(written["valid/accuracy"]) == 8 and len(written["train/loss"]) == 8


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"recipe": {**RECIPE, "rate": 0.5}}, "same settings. Received: recipe .*0.5"),
        ({"parameters": 20_000}, "same settings. Received: parameters 20000"),
        ({"fusions": {"concatenation": "sum"}}, 'Received: fusion "sum"; in the folder: "conc'),
        ({"data": small(np.random.default_rng(1))}, "same settings. Received: modalities"),
    ],
)
def test_another_comparison_is_refused(finished, change, text):
    with pytest.raises(ValueError, match=text):
        compared(finished[0], **change)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"default": "film"}, ValueError, "`default` must be one of .*Received: 'film'"),
        ({"metric": "acuracy"}, ValueError, "Did you mean 'accuracy'"),
        ({"recipe": {"epoch": 3}}, ValueError, "Unknown key 'epoch'.*'epochs'"),
        ({"recipe": {"hidden_dim": 8}}, ValueError, "both `parameters` and"),
        ({"fusions": ("sum", "sum")}, ValueError, "different names. Received: sum, sum"),
        (
            {"fusions": {"concatenation": "sum", "a_only": "sum"}},
            ValueError,
            "'a_only' is one that",
        ),
        ({"parameters": 900}, ValueError, "parameters=900, but 'concatenation' has .*dim=8"),
        ({"splits": ("test",)}, ValueError, "no split 'test'"),
        ({"seeds": ()}, ValueError, r"at least one, each once.*Received: \[\]"),
        ({"seeds": (1, 0, 1)}, ValueError, r"two runs of a seed are one. Received: \[1, 0, 1\]"),
        ({"recipe": {"drop": {"aa": 0.3}}}, ValueError, "Unknown modality 'aa' in `drop`"),
        (
            {"fusions": ("concatenation", {"name": "gated", "hidden_dim": 16})},
            ValueError,
            "`parameters` decides it. Received: hidden_dim=16 in the row 'gated'",
        ),
        ({"fusions": ("concatenation", {"nam": "gated"})}, TypeError, "a dict {'name'"),
        (
            {"fusions": {"mine": mk.fusion.SumFusion(["a", "b"])}},
            TypeError,
            "fusion of the row 'mine' must be made anew",
        ),
        ({"data": {"a": [1]}}, TypeError, "must be mk.data.table.*Received: dict"),
    ],
)
def test_refusals(tmp_path, change, error, text):
    with pytest.raises(error, match=text):
        compared(tmp_path, **change)
    assert not list(tmp_path.rglob("measured.json"))


def test_widest_is_the_widest():
    asked = []

    def count(width):
        asked.append(width)
        return width * width

    for budget in (64, 65, 40_000, 40_001, 10**9):
        found = widest(count, budget, "row")
        assert found % 8 == 0 and found**2 <= budget
        assert found == 2048 or (found + 8) ** 2 > budget
    assert len(asked) < 80 and max(asked) <= 2048


def test_majority_is_the_best_constant(rng):
    assert constant(DATA, {"kind": mk.heads.Classifier(DATA.classes)}, "valid") == {
        "accuracy": pytest.approx(
            np.mean(
                DATA.splits["valid"].truth["kind"]
                == np.bincount(DATA.splits["train"].truth["kind"]).argmax()
            )
        )
    }
    x = rng.normal(size=(12, 2)).astype("float32")
    y = np.arange(12, dtype="float32")
    data = mk.data.table({"a": x, "y": y}, {"a": mk.Vector(size=2)}, {"y": mk.Number()}, valid=0.5)
    truth = {split: held.truth["y"].reshape(-1) for split, held in data.splits.items()}
    error = np.abs(truth["valid"] - truth["train"].mean()).mean()
    assert constant(data, {"y": mk.heads.Regressor()}, "valid")["mae"] == pytest.approx(error)


def test_majority_of_a_decision_is_that_of_its_head():
    head = mk.heads.Classifier(DATA.classes)
    found = [constant(DATA, {"kind": h}, "valid") for h in (head, mk.heads.Decision(head))]
    assert found[0] == found[1] and found[0]["accuracy"] > 0


def test_an_einsum_counts():
    model = mk.assemble(
        {name: mk.Vector(size=2, normalize=False) for name in ("a", "b")},
        None,
        {"name": "block", "block_dim": 16, "num_blocks": 4, "rank": 3},
        {"kind": mk.heads.Classifier(3)},
        hidden_dim=8,
    )
    fusion = model.get_layer("fusion")
    kernels = [w for w in model.weights if w.name == "kernel"]
    products = 2 * sum(int(np.prod(w.shape)) for w in kernels)  # a row each
    cores = 2 * sum(int(np.prod(w.shape)) for w in fusion.cores.values())
    assert cores == 2 * 2 * 4 * 16 * 48
    assert products + cores < forward_flops(model, 1) < 1.2 * (products + cores)


def test_memory_of_a_step_grows_with_the_batch():
    model = mk.assemble(
        {"a": mk.Vector(size=64, normalize=False)},
        {"a": {"name": "mlp", "hidden_dim": 512}},
        "concatenation",
        {"kind": mk.heads.Classifier(3)},
    )
    model.compile("sgd", jit=False)

    def batch(rows):
        x = {"a": np.zeros((rows, 64), "float32"), "a_mask": np.ones(rows, bool)}
        return x, {"kind": np.zeros(rows, "int32")}

    found = memory.step_memory(model, batch(8192))
    # 8192 rows of 512 float32 are 16 MiB, of which some tensors live at once.
    assert 16 < found < 400


def test_every_turn_of_a_recurrence_counts_when_unrolled():
    spec = {"a": mk.Vector(size=2, steps=6, normalize=False)}
    encoder = {"a": {"name": "lstm", "hidden_dim": 4}}
    model = mk.assemble(spec, encoder, "concatenation", {"kind": mk.heads.Classifier(3)})
    assert forward_flops(model, 1, unroll=True) > forward_flops(model, 1) + 4 * 2 * 6 * 16


def test_another_precision_is_another_comparison():
    made = []
    for policy in ("float32", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        made.append(settings.of(task.checked(DATA, {}, {}, {}, ["valid"])))
    with pytest.raises(ValueError, match='precision "mixed_bfloat16"; in the folder: "float32"'):
        settings.same("out", *made)


def test_other_rows_are_another_comparison():
    other = DATA.without("valid", "a", np.array([0]))
    made = [settings.of(task.checked(data, {}, {}, {}, ["valid"])) for data in (DATA, other)]
    assert made[0]["content"]["train"] == made[1]["content"]["train"]
    assert made[0]["content"]["valid"] != made[1]["content"]["valid"]


def test_fusions_that_do_not_fit_are_left_out(monkeypatch, capsys):
    module = sys.modules["mmkeras.training.compare"]
    specs = {"a": mk.Vector(size=2, steps=3, normalize=False), "b": mk.Image(size=64)}
    rows = {"a": list(np.ones((2, 3, 2))), "b": list(np.ones((2, 64, 64, 3), "uint8"))}
    data = mk.data.table({**rows, "y": ["p", "q"]}, specs, "y")
    heads = {"y": mk.heads.Classifier(data.classes)}
    held = task.checked(data, {"a": "lstm"}, heads, None, ["train"])
    names = ("sum", "memory_fusion")
    monkeypatch.setattr(module, "FUSIONS", {n: mk.fusion.FUSIONS[n] for n in names})
    assert module.fitting(held, "sum") == ["sum"]
    assert "Without memory_fusion: Memory fusion takes aligned" in capsys.readouterr().out
    wrong = task.checked(data, {"a": "lstmm"}, heads, None, ["train"])
    with pytest.raises(ValueError, match="Did you mean 'lstm'"):
        module.fitting(wrong, "sum")


def test_a_modality_alone_is_fused_by_what_takes_it(capsys):
    module = sys.modules["mmkeras.training.compare"]
    held = task.checked(DATA, {}, {"kind": mk.heads.Classifier(DATA.classes)}, None, ["valid"])
    rows = module._rows(held, ("film", "sum"), "film")
    assert rows["film"].fusion == "film" and rows["film"].modalities == ("a", "b")
    assert rows["a_only"].fusion == rows["b_only"].fusion == "late_transformer"
    assert "a_only is fused by late_transformer: FiLM needs" in capsys.readouterr().out
    assert module._rows(held, ("film", "sum"), "sum")["a_only"].fusion == "sum"


@pytest.mark.parametrize("place", ["an epoch", "the costs"])
def test_a_run_that_is_killed_goes_on_within_itself(tmp_path, monkeypatch, place):
    module = sys.modules["mmkeras.training.compare"]
    given = {"fusions": ("concatenation",), "seeds": (0,), "recipe": {**RECIPE, "epochs": 3}}
    given["data"] = dataclasses.replace(DATA, modalities={"a": DATA.modalities["a"]})
    monkeypatch.setattr(memory, "step_memory", lambda model, batch: 1.5)
    whole = compared(tmp_path / "whole", **given)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)
            if place == "an epoch" and seen == [0, 1]:
                raise SystemExit

    monkeypatch.setattr(module._Bar, "of", lambda *a: Watch())
    cost = module._cost

    def killed(*a):
        monkeypatch.setattr(module, "_cost", cost)
        raise SystemExit

    if place == "the costs":
        monkeypatch.setattr(module, "_cost", killed)
    with pytest.raises(SystemExit):
        compared(tmp_path / "cut", **given)
    found = compared(tmp_path / "cut", **given)
    assert seen == ([0, 1, 1, 2] if place == "an epoch" else [0, 1, 2])
    same = {row["row"]: row["values"] for row in whole["rows"]}
    assert {row["row"]: row["values"] for row in found["rows"]} == same
    assert not list(tmp_path.rglob("checkpoints"))
