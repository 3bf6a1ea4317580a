"""Rows without a label: losses, metrics and gradients are of the others, exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk

SPECS = {"a": mk.Vector(size=3, normalize=False)}
HEADS = {
    "kind": lambda: mk.heads.Classifier(("x", "y", "z")),
    "size": lambda: mk.heads.Regressor(),
    "tags": lambda: mk.heads.MultiLabel(("p", "q", "r", "s")),
}
ROWS = 12


def batch(rows=ROWS):
    rng = np.random.default_rng(0)
    x = {"a": rng.standard_normal((rows, 3)).astype("float32"), "a_mask": np.ones(rows, bool)}
    y = {
        "kind": rng.integers(0, 3, rows).astype("int32"),
        "size": rng.standard_normal(rows).astype("float32"),
        "tags": rng.integers(0, 2, (rows, 4)).astype("float32"),
    }
    masks = {f"{name}_mask": rng.random(rows) < 0.6 for name in y}
    return x, {**y, **masks}


def build(heads=tuple(HEADS), fusion="concatenation", **options):
    keras.utils.set_random_seed(3)
    encoders = {m: {"name": "mlp", "hidden_dim": 7, "num_layers": 1} for m in SPECS}
    model = mk.assemble(SPECS, encoders, fusion, {h: HEADS[h]() for h in heads}, hidden_dim=4)
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "jit": False, **options})
    return model


def values(model):
    return {v.path: v.numpy() for v in model.trainable_variables}


def test_loss_metrics_and_gradients_are_those_of_the_labelled_rows():
    """Of each head by itself, against a plain run on nothing but the rows that have its label."""
    x, y = batch()
    whole = build()
    logs = whole.test_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(sum(logs[f"{h}_loss"] for h in HEADS), rel=1e-5)
    moved = {}
    for head in HEADS:
        there = y[f"{head}_mask"]
        some = {name: value[there] for name, value in x.items()}
        plain = build((head,))
        plain.set_weights([dict(zip_weights(whole))[v.path] for v in plain.weights])
        before = values(plain)
        expected = plain.test_on_batch(some, {head: y[head][there]}, return_dict=True)
        assert logs[f"{head}_loss"] == pytest.approx(expected.pop("loss"), rel=1e-5)
        for name, value in expected.items():
            assert logs[f"{head}_{name}"] == pytest.approx(value, rel=1e-5), (head, name)
        plain.train_on_batch(some, {head: y[head][there]})
        for path, value in values(plain).items():
            moved[path] = moved.get(path, 0.0) + value - before[path]
    before = values(whole)
    whole.train_on_batch(x, y)
    for path, value in values(whole).items():
        np.testing.assert_allclose(value - before[path], moved[path], rtol=1e-3, atol=2e-7)


def zip_weights(model):
    return [(v.path, v.numpy()) for v in model.weights]


def test_what_stands_behind_a_mask_changes_no_bit():
    x, y = batch()
    other = dict(y)
    for head, wrong in (("kind", -7), ("size", np.nan), ("tags", np.nan)):
        other[head] = y[head].copy()
        other[head][~y[f"{head}_mask"]] = wrong
    ends = []
    for truth in (y, other):
        model = build(fusion="late_averaging")  # whose decisions have losses of their own
        logs = model.fit(x, truth, batch_size=4, epochs=2, verbose=0, shuffle=False).history
        ends.append({**values(model), **logs})
    for name, value in ends[0].items():
        np.testing.assert_array_equal(value, ends[1][name], err_msg=name)


def test_a_task_without_a_label_is_no_loss_and_learns_nothing():
    x, y = batch()
    y["kind_mask"][:] = False
    model = build()
    before = values(model)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["kind_loss"] == logs["kind_accuracy"] == 0.0
    for path, value in values(model).items():
        assert np.isfinite(value).all()
        if path.startswith("kind/"):
            np.testing.assert_array_equal(value, before[path])
    assert not np.array_equal(values(model)["size/dense/bias"], before["size/dense/bias"])


def test_epoch_means_count_every_labelled_row_once():
    """Whatever the batches: 5 + 5 + 2 rows, of which some have no label of a head."""
    x, y = batch()
    model = build()
    logs = model.evaluate(tf.data.Dataset.from_tensor_slices((x, y)).batch(5), return_dict=True)
    whole = model.test_on_batch(x, y, return_dict=True)
    for name, value in whole.items():
        assert logs[name] == pytest.approx(value, rel=1e-5), name
    assert logs["loss"] == pytest.approx(sum(logs[f"{h}_loss"] for h in HEADS), rel=1e-5)


@pytest.mark.parametrize("heads", [("kind", "size"), ("kind",)])
def test_the_loss_of_an_evaluation_is_that_of_the_heads_and_the_rest(heads):
    x, y = batch()
    y = {name: y[name] for head in heads for name in (head, f"{head}_mask")}
    weights = {"kind": 0.5, "size": 3.0} if len(heads) > 1 else None
    model = build(heads, loss_weights=weights)
    encoder = next(layer for layer in model.layers if layer.name == "a")
    encoder.add_weight((), "ones", name="extra", regularizer=lambda w: 7.0 + 0.0 * w)
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    validation = model.fit(rows, validation_data=rows, epochs=1, verbose=0).history["val_loss"][0]
    logs = model.evaluate(rows, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(validation, rel=1e-6)
    whole = model.test_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(whole["loss"], rel=1e-5) and whole["loss"] > 7.0
    plain = {name: value for name, value in y.items() if not name.endswith("_mask")}
    told = model.evaluate(tf.data.Dataset.from_tensors((x, plain)), return_dict=True, verbose=0)
    assert told["loss"] == pytest.approx(model.test_on_batch(x, plain)[0], rel=1e-6)


def test_user_weights_and_class_weights_go_together_with_masks():
    x, y = batch()
    weights = {h: np.full(ROWS, 2.0, "float32") for h in HEADS}
    once, twice = build(), build()
    one = once.test_on_batch(x, y, return_dict=True)
    two = twice.test_on_batch(x, y, weights, return_dict=True)
    assert two["kind_loss"] == pytest.approx(2 * one["kind_loss"], rel=1e-5)
    data = tf.data.Dataset.from_tensors((x, y))
    both = {h: {0: 1.0} for h in ("kind",)}
    history = build().fit(data, class_weight=both, verbose=0).history
    assert history["kind_loss"][0] == pytest.approx(one["kind_loss"], rel=1e-5)


@pytest.mark.parametrize("plain", [False, True])
def test_weights_of_an_objective_stay_beside_a_head_with_a_mask(plain):
    specs = {"a": SPECS["a"], "b": SPECS["a"]}
    heads = {"match": mk.objectives.Contrastive(4), "kind": HEADS["kind"]()}
    model = mk.assemble(specs, heads=heads)
    model.compile("sgd", jit=False)
    x, y = batch()
    x |= {"b": x["a"][::-1].copy(), "b_mask": x["a_mask"]}
    y = {name: y[name] for name in ("kind", "kind_mask")}
    weights = np.where(np.arange(ROWS) < 5, 3.0, 0.5).astype("float32")
    given = weights if plain else {"match": weights, "kind": weights}
    found = model.test_on_batch(x, y, given, return_dict=True)["match_loss"]
    outputs = model.predict_on_batch(x)["match"]
    expected = float(model.get_layer("match").batch_loss(outputs, None, weights))
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_output_without_a_loss_may_stand_beside_a_head_with_a_mask():
    x, y = batch()
    y = {name: y[name] for name in ("kind", "kind_mask")}
    loss = {"kind": "sparse_categorical_crossentropy", "size": None}
    model = build(("kind", "size"), loss=loss)
    there = y["kind_mask"]
    alone = build(("kind", "size"), loss=loss)
    expected = alone.test_on_batch(
        {name: value[there] for name, value in x.items()}, {"kind": y["kind"][there]}
    )
    assert model.test_on_batch(x, y) == pytest.approx(expected, rel=1e-5)


def test_jit_is_measured_on_batches_with_masks_in_the_scope_too(monkeypatch, capfd):
    monkeypatch.setattr("mmkeras.training.jit.MIN_STEPS", 1)
    x, y = batch()
    rows = tf.data.Dataset.from_tensors((x, {n: y[n] for n in ("kind", "kind_mask")}))
    with tf.distribute.MirroredStrategy(["cpu:0"]).scope():
        build(("kind",), jit="auto").fit(rows, verbose=2)
    assert "forward and backward take" in capfd.readouterr().err


def joint(objective, **options):
    """A model of an objective and a head, and a batch with a mask for both."""
    keras.utils.set_random_seed(3)
    specs = {"a": SPECS["a"], "b": SPECS["a"]}
    model = mk.assemble(specs, heads={"match": objective, "kind": HEADS["kind"]()})
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "jit": False, **options})
    x, y = batch()
    x |= {"b": x["a"][::-1].copy(), "b_mask": x["a_mask"]}
    y = {name: y[name] for name in ("kind", "kind_mask")}
    return model, x, {**y, "match": y["kind"], "match_mask": y["kind_mask"]}


@pytest.mark.parametrize("loss", ["info_nce", "hard_nce", "siglip", "triplet"])
def test_a_row_without_a_label_is_alone_in_its_class(loss):
    model, x, y = joint(mk.objectives.Contrastive(4, loss))
    there = y.pop("match_mask")
    told = {**y, "match": np.where(there, y["match"], 10 + np.arange(ROWS)).astype("int32")}
    expected = model.test_on_batch(x, told, return_dict=True)
    wrong = {**y, "match": np.where(there, y["match"], 1).astype("int32"), "match_mask": there}
    assert model.test_on_batch(x, wrong, return_dict=True) == expected
    assert model.test_on_batch(x, y, return_dict=True)["match_loss"] != expected["match_loss"]
    other = joint(mk.objectives.Contrastive(4, loss))[0]
    model.fit(x, wrong, batch_size=ROWS, verbose=0)
    other.fit(x, told, batch_size=ROWS, verbose=0)
    for name, value in values(other).items():
        assert values(model)[name].tobytes() == value.tobytes(), name


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint64"])
def test_labels_of_any_integers_are_the_same_classes(dtype, masked):
    model, x, y = joint(mk.objectives.Contrastive(4))
    x, y = ({k: np.repeat(v, 30, axis=0) for k, v in part.items()} for part in (x, y))
    y = y if masked else {k: v for k, v in y.items() if k != "match_mask"}
    expected = model.test_on_batch(x, y, return_dict=True)  # more rows than 8 bits have numbers
    found = model.test_on_batch(x, {**y, "match": y["match"].astype(dtype)}, return_dict=True)
    assert found == expected


def test_an_objective_that_needs_all_labels_refuses_a_mask():
    model, x, y = joint(mk.objectives.JointEmbedding(4))
    with pytest.raises(ValueError, match="takes labels of all rows or of none. Received: 'match'"):
        model.train_on_batch(x, y)


@pytest.mark.parametrize("masked", [False, True])
def test_an_only_head_beside_an_objective_logs_its_loss(masked):
    given = {"loss_weights": {"match": 0.5, "kind": 2.0}}
    model, x, y = joint(mk.objectives.Contrastive(4), **given)
    y = {name: y[name] for name in ("kind", "kind_mask") if masked or name == "kind"}
    there = y.get("kind_mask", np.ones(ROWS, bool))
    logs = model.evaluate(x, y, batch_size=5, return_dict=True, verbose=0)
    said = model.predict(x, verbose=0)["kind"][there]
    expected = keras.losses.sparse_categorical_crossentropy(y["kind"][there], said, True)
    assert logs["kind_loss"] == pytest.approx(float(np.mean(expected)), rel=1e-5)
    whole = 0.5 * logs["match_loss"] + 2.0 * logs["kind_loss"]
    assert logs["loss"] == pytest.approx(whole, rel=1e-5)
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert {"kind_loss", "match_loss", "val_kind_loss", "val_match_loss"} <= set(history)


# From the cells of a table


def rows():
    return {
        "a": [[1.0, 2.0, 3.0]] * 4,
        "kind": ["x", None, "y", ""],
        "size": [1.5, np.nan, None, -2.0],
        "tags": ["p|q", None, [], "p"],
    }


TARGETS = {
    "kind": mk.Label(optional=True),
    "size": mk.Number(optional=True),
    "tags": mk.Labels(optional=True),
}


def test_empty_cells_of_optional_targets_are_masked(tmp_path):
    data = mk.data.table(rows(), SPECS, TARGETS, valid=rows())
    folder = mk.data.write_shards(data, tmp_path / "shards")
    for source in (data, mk.data.shards(folder)):
        ((_, y),) = source.valid(4)
        assert y["kind_mask"].numpy().tolist() == [True, False, True, False]
        assert y["size_mask"].numpy().tolist() == [True, False, False, True]
        assert y["tags_mask"].numpy().tolist() == [True, False, True, True]
        assert y["kind"].numpy().tolist() == [0, 0, 1, 0]
        assert y["size"].numpy().tolist() == [1.5, 0.0, 0.0, -2.0]
        assert y["tags"].numpy().tolist() == [[1, 1], [0, 0], [0, 0], [1, 0]]
    some = data.with_targets(["size"])
    ((_, y),) = some.valid(4)
    assert set(y) == {"size", "size_mask"} and list(some.targets) == ["size"]
    with pytest.raises(ValueError, match="Unknown target 'sise'.*'size'"):
        data.with_targets(["sise"])
    counts = mk.data.check(rows(), SPECS, TARGETS).labels["train"]
    assert counts["kind"] == {"x": 1, "y": 1} and counts["tags"] == {"p": 2, "q": 1}


def test_a_table_trains_with_samples(tmp_path):
    data = mk.data.table(rows(), SPECS, TARGETS, valid=rows())
    heads = {
        "kind": mk.heads.Classifier(data.targets["kind"].classes),
        "size": mk.heads.Regressor(),
        "tags": mk.heads.MultiLabel(data.targets["tags"].classes),
    }
    model = mk.assemble(data.modalities, fusion="concatenation", heads=heads, hidden_dim=4)
    model.compile("sgd", jit=False)
    samples = mk.training.Samples(str(tmp_path), data)
    history = model.fit(
        data.train(4), validation_data=data.valid(4), callbacks=[samples], verbose=0
    ).history
    assert np.isfinite([v[0] for v in history.values()]).all()


def test_missing_cells_are_refused_unless_optional():
    for target, way in (
        (mk.Label(), "Label(optional=True)"),
        (mk.Number(), "Number(optional=True)"),
    ):
        name = "kind" if target.kind == "label" else "size"
        with pytest.raises(ValueError, match="Row 2 .*must not be missing") as error:
            mk.data.table(rows(), SPECS, {name: target})
        assert way in str(error.value)
    with pytest.raises(ValueError, match="No target may be called kind_mask"):
        mk.data.table(rows(), SPECS, {"kind": mk.Label(), "kind_mask": mk.Label()})
    data = mk.data.table(rows(), SPECS, TARGETS)
    with pytest.raises(ValueError, match="must have its labels. Received: 'kind'"):
        data.train(4, mix={"mixup": {}})


# From several sources


def test_sources_of_one_task_each_train_in_one_fit():
    first = mk.data.table(
        {"a": [[1.0, 0.0, 0.0]] * 8, "kind": ["x", "y"] * 4}, SPECS, "kind", valid=0.25
    )
    second = mk.data.table(
        {"b": [[2.0, 1.0]] * 6, "size": [0.5] * 6},
        {"b": mk.Vector(size=2, normalize=False)},
        {"size": mk.Number()},
        valid=0.5,
    )
    mixed = mk.data.mix({"one": first, "two": second}, rates={"one": 3, "two": 1})
    assert {n: t.optional for n, t in mixed.targets.items()} == {"kind": True, "size": True}
    x, y = next(iter(mixed.train(4)))
    assert y["kind_mask"].numpy().tolist() == x["a_mask"].numpy().tolist()
    assert y["size_mask"].numpy().tolist() == x["b_mask"].numpy().tolist()
    assert y["size"].numpy().sum() == 0.5 and y["kind_mask"].numpy().sum() == 3
    held = list(mixed.valid(4))
    assert [len(y["size"]) for _, y in held] == [2, 3]
    assert [bool(y["size_mask"][0]) for _, y in held] == [False, True]
    assert len(list(mixed.valid(4).part((0, 1)))) == 2
    heads = {"kind": mk.heads.Classifier(first.classes), "size": mk.heads.Regressor()}
    model = mk.assemble(mixed.modalities, fusion="sum", heads=heads, hidden_dim=4)
    model.compile(keras.optimizers.Adam(0.01), jit=False, tasks="gradnorm")
    logs = model.fit(mixed.train(4), validation_data=mixed.valid(4), epochs=3, verbose=0).history
    assert {"val_kind_accuracy", "val_size_loss", "kind_size_cosine"} <= set(logs)
    alone = second.valid(4).map(lambda x, y: y["size"])
    said = model.predict(mixed.valid(4), verbose=0)["size"][2:, 0]
    expected = np.mean((said - np.concatenate(list(alone))) ** 2)
    assert logs["val_size_loss"][-1] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="No part has a split 'test'"):
        mixed.test(4)
