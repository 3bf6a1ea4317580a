"""Losses of the global batch: exact on two replicas, in micro-batches, with random layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import jit, recipe
from tests.training import joint_gradients

CASES = (
    "alone",
    "siglip, tiles, micro-batches",
    "uneven batches",
    "hard_nce, tiles",
    "triplet, uneven batches",
    "masked, evaluation",
    "masked, training",
    "queue, uneven batches",
    "queue, micro-batches, xla",
    "micro-batches on one device",
)


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("joint_replicas")


@pytest.mark.parametrize("name", CASES)
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs; SigLIP's loss begins near 15.
    assert cases[name] <= (2e-5 if "siglip" in name else 3e-6)


@pytest.fixture(scope="module")
def gradients(script_result):
    return script_result("joint_gradients")


@pytest.mark.parametrize(
    ("loss", "way"), [(loss, way) for loss, ways in joint_gradients.SOME.items() for way in ways]
)
def test_loss_and_every_gradient_are_one_device_s(gradients, loss, way):
    # Losses up to 13, gradients up to 6: the order of float32 sums; measured 1e-6 and 3.3e-6.
    assert gradients[loss]["plain"]["gradient"] > 0.1
    assert gradients[loss][way]["loss"] <= 5e-6 and gradients[loss][way]["gradient"] <= 1e-5


def model_of(dropout=0.0, **options):
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
    encoders = {name: {"name": "mlp", "dropout": dropout} for name in specs}
    model = mk.assemble(specs, encoders, heads={"match": mk.objectives.Contrastive(4)})
    model.compile("sgd", jit=False, **options)
    return model


def batch_of(rows=8):
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((rows, 3)).astype("float32") for name in ("a", "b")}
    return {**x, "a_mask": rng.random(rows) < 0.8, "b_mask": np.ones(rows, bool)}


def test_random_layers_draw_the_same_numbers_in_both_phases():
    model = model_of(dropout=0.5, accumulate_steps=2)
    x = {name: tf.constant(value) for name, value in batch_of().items()}
    model.make_train_function()
    outputs = model._mm_joint._all_outputs(x, 2)["match"].numpy()
    _, predictions, gradients = model._mm_joint.gradient(
        model._compiled_gradient, (x, {}, None), 8, 2, {}
    )
    assert predictions["match"].numpy().tobytes() == outputs.tobytes()
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients)
    again = model._mm_joint._all_outputs(x, 2)["match"].numpy()
    assert not np.array_equal(again, outputs)  # the draws went on by one step


def test_the_logged_loss_is_the_formula():
    model = model_of()
    x = batch_of()
    logs = model.test_on_batch(x, {}, return_dict=True)
    e = model.predict_on_batch(x)["match"]
    there = x["a_mask"]
    z = model.get_layer("match").scale * e[there, 0] @ e[there, 1].T
    rows = np.log(np.exp(z).sum(1)) + np.log(np.exp(z).sum(0)) - 2 * np.diag(z)
    assert logs["match_loss"] == logs["loss"] == pytest.approx(rows.mean() / 2, rel=1e-5)


def test_a_step_lowers_the_loss_and_saves(tmp_path):
    model = model_of(clip_norm=1.0)
    rows = tf.data.Dataset.from_tensors((batch_of(), {})).repeat(8)
    losses = model.fit(rows, epochs=3, verbose=0).history["match_loss"]
    assert losses[2] < losses[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model.predict_on_batch(batch_of())["match"]
    assert loaded.predict_on_batch(batch_of())["match"].tobytes() == expected.tobytes()
    assert loaded.evaluate(rows, verbose=0, return_dict=True)["loss"] == pytest.approx(
        model.evaluate(rows, verbose=0, return_dict=True)["loss"], rel=1e-6
    )


def test_a_remedy_beside_an_objective_leaves_it_alone():
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
    heads = {"match": mk.objectives.Contrastive(4), "kind": mk.heads.Classifier(("no", "yes"))}
    model = mk.assemble(specs, heads=heads)
    model.compile("sgd", jit=False, balance="auxiliary")
    y = {"kind": np.arange(8) % 2}
    logs = model.train_on_batch(batch_of(), y, return_dict=True)
    assert {"a_loss", "b_loss", "match_loss"} <= set(logs)
    assert 0.0 < logs["match_loss"] < logs["loss"]
    alone = model_of()
    with pytest.raises(ValueError, match=r"objectives alone, \['match'\]"):
        alone.compile("sgd", balance="auxiliary")


def weighed(**options):
    keras.utils.set_random_seed(0)
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
    heads = {"match": mk.objectives.Contrastive(4), "kind": mk.heads.Classifier(("no", "yes"))}
    model = mk.assemble(specs, heads=heads)
    model.compile(keras.optimizers.SGD(0.5), jit=False, **options)
    before = [v.numpy() for v in model.trainable_variables]
    logs = model.train_on_batch(batch_of(), {"kind": np.arange(8) % 2}, return_dict=True)
    moved = {v.path: v.numpy() - b for v, b in zip(model.trainable_variables, before, strict=True)}
    return model, logs, moved


@pytest.mark.parametrize("count", [1, 2], ids=["whole", "micro-batches"])
def test_loss_weights_weigh_objectives_and_heads(count, tmp_path):
    _, plain, whole = weighed(accumulate_steps=count)
    given = {"match": 0.25, "kind": 2.0}
    model, logs, moved = weighed(accumulate_steps=count, loss_weights=given)
    assert logs["match_loss"] == pytest.approx(plain["match_loss"], rel=1e-6), "it is not weighed"
    kind = plain["loss"] - plain["match_loss"]
    assert logs["loss"] == pytest.approx(0.25 * logs["match_loss"] + 2.0 * kind, rel=1e-5)
    for path, change in moved.items():
        if path.startswith(("match/", "kind/")):
            share = given[path.split("/")[0]]
            np.testing.assert_allclose(change, share * whole[path], rtol=1e-4, atol=1e-7)
    only = weighed(accumulate_steps=count, loss_weights={"match": 0.0})
    assert only[1]["loss"] == pytest.approx(kind, rel=1e-5)
    assert not any(change.any() for path, change in only[2].items() if path.startswith("match/"))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    y = {"kind": np.arange(8) % 2}
    found, kept = (m.test_on_batch(batch_of(), y, return_dict=True) for m in (again, model))
    assert found["loss"] == pytest.approx(kept["loss"], rel=1e-6)
    again.compile("sgd", jit=False)
    unweighed = again.test_on_batch(batch_of(), y, return_dict=True)
    match = unweighed["match_loss"]
    assert kept["loss"] == pytest.approx(0.25 * match + 2 * (unweighed["loss"] - match), rel=1e-5)


def test_loss_weights_name_outputs():
    with pytest.raises(ValueError, match="no output 'mach' to weigh.*match"):
        model_of(loss_weights={"mach": 1.0})
    with pytest.raises(ValueError, match=r"for each of the outputs \['match'\].*\[1.0, 2.0\]"):
        model_of(loss_weights=[1.0, 2.0])


def test_jit_is_measured_on_a_micro_batch():
    x, y, _ = jit.example((batch_of(16), {"kind": np.arange(16)}), 16, 4)
    assert {len(part) for part in x.values()} == {4} and y["kind"].shape == (4,)


def test_a_recipe_does_not_decay_scale_and_bias():
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
    model = mk.assemble(specs, heads={"match": mk.objectives.Contrastive(4, "siglip")})
    x = {name: batch_of()[name] for name in specs}
    data = mk.data.table({k: list(v) for k, v in x.items()}, specs, seed=0)
    given = {"epochs": 1, "batch": 8, "rate": 1e-3, "weight_decay": 0.5, "jit": False}
    recipe.train(model, data, given, verbose=0)
    decayed = zip(model.trainable_variables, model.optimizer._decayed, strict=True)
    assert {v.path for v, d in decayed if not d} == {"match/log_scale", "match/bias"}


@pytest.fixture(scope="module")
def statistics(script_result):
    return script_result("statistics_replicas")


@pytest.mark.parametrize(
    "name",
    ["vicreg, uneven batches, all objectives", "barlow_twins, xla", "cca, micro-batches"],
)
def test_statistics_are_of_the_global_batch(statistics, name):
    # The order of float32 sums is all that differs; measured 5.3e-7.
    assert statistics[name] <= 3e-6
