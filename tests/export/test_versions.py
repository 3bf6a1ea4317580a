"""Late fusions explained exactly, contrastive spaces, and versions that are told apart."""

import json
import sys

import keras
import numpy as np
import pytest

import mmkeras as mk
from tests.objectives import inputs
from tests.session_loader import Loaded, ask

SPECS = {"left": mk.Vector(size=3), "right": mk.Vector(size=2)}


def made(folder, fusion="late_averaging", seed=0, **more):
    rng = np.random.default_rng(0)
    rows = {
        "left": [list(v) for v in rng.standard_normal((12, 3))],
        "right": [None if i % 4 == 0 else list(rng.standard_normal(2)) for i in range(12)],
        "kind": list("abcabcabcabc"),
        "tags": [["x", "y"], ["y"], ["x"]] * 4,
    }
    data = mk.data.table(rows, SPECS, {"kind": mk.Label(), "tags": mk.Labels()}, valid=rows)
    heads = {
        "kind": mk.heads.Classifier(data.targets["kind"].classes),
        "tags": mk.heads.MultiLabel(data.targets["tags"].classes),
        **more,
    }
    if fusion != "voting":
        heads["size"] = mk.heads.Regressor(2)
    keras.utils.set_random_seed(seed)
    model = mk.assemble(data.modalities, fusion=fusion, heads=heads, hidden_dim=8)
    path = mk.export.saved_model(model, data.modalities, folder, data=data)
    return model, data, path


@pytest.fixture(scope="module")
def late(tmp_path_factory):
    match = mk.objectives.Contrastive()
    return made(tmp_path_factory.mktemp("late") / "1", match=match)


@pytest.fixture(scope="module")
def voted(tmp_path_factory):
    return made(tmp_path_factory.mktemp("voted") / "2", "voting", seed=1)


@pytest.mark.parametrize("which", ["late", "voted"])
def test_the_parts_of_late_fusions_add_up_to_the_score(which, request):
    _, data, path = request.getfixturevalue(which)
    found = ask(path, data.raw("train", range(12)), "explain")
    sums = {k.removesuffix("_part"): v.sum(axis=1) for k, v in found.items() if "_part" in k}
    assert set(sums) == {"kind", "tags", "size"} - ({"size"} if which == "voted" else set())
    np.testing.assert_allclose(sums["kind"], found["kind_scores"].max(axis=1), atol=1e-6)
    np.testing.assert_allclose(sums["tags"], found["tags_scores"], atol=1e-6)
    if "size" in sums:
        np.testing.assert_allclose(sums["size"], found["size"], atol=1e-6)
    assert found["kind_part"].shape == (12, 2) and found["tags_part"].shape == (12, 2, 2)
    assert not found["kind_part"][~found["present"]].any() and not found["present"].all()


def test_the_common_space_is_among_the_embeddings(late):
    model, data, path = late
    x, _ = next(iter(data.batches("train", 12)))
    found = ask(path, data.raw("train", range(12)), "embed")
    assert set(found) == {"left", "right", "fused", "match", "bad_input"}
    np.testing.assert_allclose(found["match"], model.predict_on_batch(x)["match"], atol=5e-6)
    np.testing.assert_allclose(np.linalg.norm(found["match"][:, 0], axis=1), 1.0, atol=1e-5)


def test_a_hybrid_has_one_embedding_per_modality_and_no_exact_parts(tmp_path):
    model, data, path = made(tmp_path / "1", ["concatenation", "late_averaging"])
    with Loaded(path) as served:
        raw = data.raw("train", range(3))
        assert set(served.ask(raw, "embed")) == {"left", "right", "fused", "bad_input"}
        assert "kind_part" not in served.ask(raw, "explain")


def test_a_model_of_ones_own_has_the_signatures_that_it_can_have(tmp_path, late):
    _, data, _ = late
    inputs = {}
    for name, spec in data.modalities.items():
        inputs[name] = keras.Input(spec.shape, name=name)
        inputs[f"{name}_mask"] = keras.Input((), dtype="bool", name=f"{name}_mask")
    model = keras.Model(inputs, {"out": keras.layers.Dense(2, name="out")(inputs["left"])})
    path = mk.export.saved_model(model, data.modalities, tmp_path / "1")
    assert mk.export.about(path)["signatures"] == ["serving_default", "decoded"]
    x, _ = next(iter(data.batches("train", 12)))
    answered = ask(path, data.raw("train", range(12)))["out"]
    np.testing.assert_allclose(answered, model.predict_on_batch(x)["out"], atol=5e-6)
    renamed = keras.Model(inputs, {"fused": keras.layers.Dense(2, name="fused")(inputs["left"])})
    with pytest.raises(ValueError, match="head of the name 'fused'. Rename it"):
        mk.export.saved_model(renamed, data.modalities, tmp_path / "2")


def test_what_changes_between_two_versions(late, voted):
    _, data, first = late
    second = voted[2]
    side = ["even", "odd"] * 6
    found = mk.export.diff(first, second, data, groups={"side": side}, batch_size=5)
    raw = data.raw("valid", range(12))
    a, b = (ask(path, raw) for path in (first, second))
    truth = np.array(list("abcabcabcabc"))
    changed = a["kind_label"] != b["kind_label"]
    kind = found["heads"]["kind"]
    assert found["rows"] == kind["rows"] == 12 and 0 < kind["changed"] == changed.sum()
    assert kind["right_a"] == (a["kind_label"] == truth).sum()
    assert kind["right_b"] - kind["right_a"] == kind["fixed"] - kind["broken"]
    assert kind["largest"] == pytest.approx(np.abs(a["kind_scores"] - b["kind_scores"]).max())
    for group, values in (("side", np.array(side)), ("kind", truth)):
        for value, sums in kind["groups"][group].items():
            rows = values == value
            assert sums["rows"] == rows.sum() and sums["changed"] == changed[rows].sum()
    moved = (a["tags_labels"] != b["tags_labels"]).any(axis=1)
    assert found["heads"]["tags"]["changed"] == moved.sum()
    assert set(found["heads"]) == {"kind", "tags"}
    shown = str(found).splitlines()
    assert shown[0] == f"a {first}" and any(line.split()[:2] == ["side", "odd"] for line in shown)
    same = mk.export.diff(first, first, data)["heads"]
    assert all(one["changed"] == 0 and one["largest"] == 0.0 for one in same.values())


def test_what_cannot_be_compared(late):
    _, data, path = late
    with pytest.raises(ValueError, match="a value for each of the 12 rows.*Received: 2 of 'side'"):
        mk.export.diff(path, path, data, groups={"side": ["even", "odd"]})
    with pytest.raises(ValueError, match="no split 'valib'.*Did you mean 'valid'"):
        mk.export.diff(path, path, data, split="valib")


def test_what_is_in_a_folder(late, tmp_path):
    model, _, path = late
    found = mk.export.inspect(path)
    assert sorted(found["signatures"]) == ["decoded", "embed", "explain", "serving_default"]
    raw = found["signatures"]["serving_default"]
    assert raw["inputs"]["left"] == {"dtype": "float32", "shape": [None, 3], "optional": True}
    assert raw["outputs"]["bad_input"] == {"dtype": "bool", "shape": [None, 2]}
    assert raw["outputs"]["kind_label"] == {"dtype": "string", "shape": [None]}
    assert set(found["signatures"]["decoded"]["inputs"]) == set(model.input)
    assert found["ops"]["MatMul"] > 0 and found["beyond_core"] == []
    assert found["variables"]["numbers"] >= model.count_params()
    held = sum(size for file, size in found["bytes"].items() if ".data-" in file)
    assert held >= sum(found["variables"]["bytes"].values()) == 4 * found["variables"]["numbers"]
    assert found["bytes"]["total"] == sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    assert found["tensorflow"]["needs"] == ">=2.21,<3"
    assert found["about"] == mk.export.about(path)
    shown = str(found)
    assert "signature embed" in shown and "ops beyond TensorFlow" in shown
    with pytest.raises(ValueError, match="a folder with a saved_model.pb"):
        mk.export.inspect(tmp_path)


@pytest.mark.parametrize("labelled", [True, False])
def test_objectives_that_run_the_fusion_leave_embeddings_and_answers_alone(
    labelled, late, tmp_path
):
    _, data, _ = late
    heads = {"match": mk.objectives.Contrastive(4), "pairing": mk.objectives.Matching("match")}
    if labelled:
        heads["kind"] = mk.heads.Classifier(data.targets["kind"].classes)
    keras.utils.set_random_seed(0)
    model = mk.assemble(data.modalities, fusion="concatenation", heads=heads, hidden_dim=8)
    names = ["serving_default", "embed"]
    path = mk.export.saved_model(model, data.modalities, tmp_path / "1", signatures=names)
    x, _ = next(iter(data.batches("train", 12)))
    with Loaded(path) as exported:
        found = exported.ask(data.raw("train", range(12)), "embed")
        answered = exported.ask(data.raw("train", range(12)))
    assert {"left", "right", "match", "bad_input"} == set(found) - {"fused"}
    for name in data.modalities:
        encoder = next(
            layer
            for layer in model.layers
            if isinstance(layer, keras.Model) and set(layer.input) >= {name}
        )
        made = encoder.predict_on_batch({k: x[k] for k in (name, f"{name}_mask")})
        mask = made["mask"][:, :, None]
        mean = np.where(mask, made["tokens"], 0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
        np.testing.assert_allclose(found[name], mean, atol=5e-6)
    expected = model.predict_on_batch(x)
    np.testing.assert_allclose(answered["match"], expected["match"], atol=5e-6)
    assert set(mk.export.about(path)["heads"]) == set(heads) - {"pairing"}
    assert "pairing" not in answered, "it depends on the other rows"
    assert ("fused" in found) == labelled
    if labelled:
        head = next(layer for layer in model.layers if layer.name == "kind")
        logits = found["fused"] @ head.dense.kernel.numpy() + head.dense.bias.numpy()
        np.testing.assert_allclose(logits, expected["kind"], atol=5e-6)
        difference = mk.export.diff(path, path, data)["heads"]
        assert set(difference) == {"match", "kind"}


def test_a_model_of_losses_alone_has_nothing_to_serve(tmp_path):
    specs, heads = (
        {"image": inputs.SPECS["image"]},
        {"patches": mk.objectives.MaskedPatches("image")},
    )
    model = mk.assemble(specs, {"image": inputs.ENCODERS["image"]}, heads=heads, hidden_dim=8)
    with pytest.raises(ValueError, match=r"a head or a contrastive objective.*\['patches'\]"):
        mk.export.saved_model(model, specs, tmp_path / "1")
    assert not list(tmp_path.iterdir())


def told(folder, classes, scores):
    """What `diff` reads of an export: a Classifier, and a Regressor that says its last score."""
    (folder / "assets.extra").mkdir(parents=True)
    about = {"heads": {"kind": "Classifier", "size": "Regressor"}, "classes": {"kind": classes}}
    (folder / "assets.extra" / "mmkeras.json").write_text(json.dumps(about))
    scores = np.array(scores, "float32")
    label = np.array(classes)[scores.argmax(axis=1)]
    return {"kind": scores, "kind_scores": scores, "kind_label": label, "size": scores[:, :1]}


def test_diff_counts_by_class_and_only_what_is_there(tmp_path, monkeypatch):
    rows = {"left": [[1.0, 2.0, 3.0]] * 4, "kind": ["a", "b", None, "a"]}
    specs = {"left": mk.Vector(size=3, normalize=False)}
    data = mk.data.table(rows, specs, {"kind": mk.Label(optional=True)}, valid=rows)
    nan = float("nan")
    scores = [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]]
    turned = [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [nan, nan]]
    a = told(tmp_path / "a", ["a", "b"], scores)
    b = told(tmp_path / "b", ["b", "a"], turned[:3] + [[0.4, 0.6]])
    c = told(tmp_path / "c", ["a", "b"], scores[:3] + [[nan, nan]])
    d = told(tmp_path / "d", ["a", "x"], scores)
    answers = {tmp_path / name: one for name, one in zip("abcd", (a, b, c, d), strict=True)}
    monkeypatch.setattr(sys.modules["mmkeras.export.difference"], "_ask", lambda p, *_: answers[p])
    found = {n: mk.export.diff(tmp_path / "a", tmp_path / n, data)["heads"] for n in "abcd"}
    kind = found["b"]["kind"]
    assert kind["largest"] == 0.0 and kind["changed"] == 0
    assert kind["right_a"] == kind["right_b"] == 3, "the row without a label is neither"
    assert {v: sums["rows"] for v, sums in kind["groups"]["kind"].items()} == {
        "": 1,
        "a": 2,
        "b": 1,
    }
    assert found["c"]["kind"]["changed"] == found["c"]["size"]["changed"] == 1
    assert found["c"]["kind"]["broken"] == 1, "what is no number is not right"
    assert found["d"]["kind"]["largest"] is None and found["a"]["size"]["changed"] == 0
