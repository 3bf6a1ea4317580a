"""Ways to weigh tasks: formulas, what a step does, replicas, resume, files, TensorBoard, errors."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmkeras as mk
from mmkeras.training import optimizers, recipe
from mmkeras.training.multitask.averaging import averaged
from mmkeras.training.multitask.gradnorm import FLOOR, stepped
from mmkeras.training.multitask.pcgrad import projected
from tests.training.interrupted import Interrupt

SPECS = {"a": mk.Vector(size=3, normalize=False), "b": mk.Vector(size=2, normalize=False)}
HEADS = {
    "kind": lambda: mk.heads.Classifier(("x", "y", "z")),
    "size": lambda: mk.heads.Regressor(),
    "tags": lambda: mk.heads.MultiLabel(("p", "q", "r", "s")),
}


def batch(rows=6, heads=("kind", "size"), seed=0):
    rng = np.random.default_rng(seed)
    x = {}
    for m, spec in SPECS.items():
        x[m] = rng.standard_normal((rows, *spec.shape)).astype("float32")
        x[f"{m}_mask"] = rng.random(rows) < 0.7
    y = {
        "kind": rng.integers(0, 3, rows).astype("int32"),
        "size": rng.standard_normal((rows, 1)).astype("float32"),
        "tags": rng.integers(0, 2, (rows, 4)).astype("float32"),
    }
    return x, {h: y[h] for h in heads}


def build(way, heads=("kind", "size"), **options):
    keras.utils.set_random_seed(3)
    model = mk.assemble(
        SPECS,
        {m: {"name": "mlp", "hidden_dim": 7, "num_layers": 1} for m in SPECS},
        "concatenation",
        {h: HEADS[h]() for h in heads},
        hidden_dim=4,
    )
    options = {"optimizer": keras.optimizers.SGD(1.0), "jit": False, **options}
    model.compile(tasks=way, **options)
    return model


def values(model):
    return {v.path: v.numpy() for v in model.variables}


def step(way, heads=("kind", "size"), **options):
    """Logs of a step of SGD at rate 1, and what it subtracted from the weights."""
    model = build(way, heads, **options)
    start = {v.path: v.numpy() for v in model.trainable_variables}
    logs = model.train_on_batch(*batch(heads=heads), return_dict=True)
    return logs, {p: start[p] - values(model)[p] for p in start}, model


def task_gradients(heads=("kind", "size")):
    """Of each task's loss by itself, path -> gradient, and the losses."""
    found = {}
    for head in heads:
        logs, moved, _ = step(None, heads, loss_weights={h: float(h == head) for h in heads})
        found[head] = (logs[f"{head}_loss"], moved)
    return found


def flat(gradients, paths):
    return np.concatenate([gradients[p].ravel() for p in paths]).astype("float64")


def shared(paths, last=False):
    own = [p for p in paths if p.split("/")[0] not in (*HEADS, "tasks")]
    return [p for p in own if p.startswith("fusion")] if last else own


# Formulas, against NumPy


def test_projection_is_the_papers():
    rng = np.random.default_rng(0)
    for count in (2, 3, 4):
        g = rng.standard_normal((count, 3))  # few dimensions: much conflict
        orders = np.stack([rng.permutation(count) for _ in range(count)])
        expected = []
        for i in range(count):
            own = g[i].copy()
            for j in orders[i]:
                inner = own @ g[j]
                if j != i and inner < 0:
                    own -= inner / (g[j] @ g[j]) * g[j]
            expected.append(own)
        found = projected(tf.constant(g @ g.T), tf.constant(orders)).numpy()
        np.testing.assert_allclose(found @ g, np.sum(expected, axis=0), atol=1e-12)
        conflict = (g @ g.T < 0).any()
        assert conflict != np.allclose(found, 1.0)
    assert conflict
    zero = np.diag([1.0, 0.0])
    np.testing.assert_array_equal(projected(tf.constant(zero), tf.constant([[0, 1], [0, 1]])), 1)


def test_a_gradnorm_step_is_that_of_autodiff_with_a_constant_target():
    rng = np.random.default_rng(1)
    w, now, first, norms = rng.uniform(0.5, 1.5, (4, 3))
    variable = tf.Variable(w)
    ratio = (now / first) / (now / first).mean()
    target = (w * norms).mean() * ratio**1.5
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.abs(variable * norms - target))
    new = w - 0.025 * tape.gradient(loss, variable).numpy()
    found = stepped(*(tf.constant(v) for v in (w, now, first, norms)), 1.5, 0.025)
    np.testing.assert_allclose(found, new * 3 / new.sum(), rtol=1e-10)
    # A task without a label counts for nothing, and no weight turns negative.
    now[0] = 0.0
    found = stepped(*(tf.constant(v) for v in (w, now, first, norms)), 1.5, 0.0).numpy()
    np.testing.assert_allclose(found, 3 * w / w.sum(), rtol=1e-10)
    found = stepped(*(tf.constant(v) for v in (w, now, first, norms)), 1.5, 1e3).numpy()
    assert (found > 0).all() and found.sum() == pytest.approx(3.0)
    assert found.min() >= FLOOR / (found.max() * 1e3 * 3)


def test_averaging_is_the_papers():
    before, now = np.array([2.0, 1.0, 4.0]), np.array([1.0, 0.9, 4.4])
    raw = np.exp(now / before / 2.0)
    np.testing.assert_allclose(averaged(before, now, 2.0), 3 * raw / raw.sum(), rtol=1e-12)
    now[1] = 0.0  # no label in this epoch: as if its loss stayed
    raw = np.exp(np.array([0.5, 1.0, 1.1]) / 2.0)
    np.testing.assert_allclose(averaged(before, now, 2.0), 3 * raw / raw.sum(), rtol=1e-12)
    assert np.isfinite(averaged(np.full(2, 1e-30), np.ones(2), 2.0)).all()


# What a step does


def test_norms_and_cosines_are_of_the_tasks_gradients():
    each = task_gradients()
    for reach in ("last", "all"):
        logs, _, model = step(mk.training.tasks("fixed", shared=reach))
        paths = shared(each["kind"][1], last=reach == "last")
        assert paths
        a, b = (flat(each[h][1], paths) for h in ("kind", "size"))
        assert logs["kind_gradient_norm"] == pytest.approx(np.linalg.norm(a), rel=1e-4)
        assert logs["size_gradient_norm"] == pytest.approx(np.linalg.norm(b), rel=1e-4)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert logs["kind_size_cosine"] == pytest.approx(cosine, abs=1e-4)


def test_fixed_is_a_plain_step_with_loss_weights():
    weights = {"kind": 0.3, "size": 2.0}
    plain, moved, _ = step(None, loss_weights=weights)
    logs, same, _ = step("fixed", loss_weights=weights)
    for path, value in moved.items():
        np.testing.assert_allclose(same[path], value, rtol=1e-4, atol=1e-7)
    for name, value in plain.items():
        assert logs[name] == pytest.approx(value, rel=1e-5)
    assert [logs["kind_weight"], logs["size_weight"]] == pytest.approx([0.3, 2.0])


def test_uncertainty_is_the_likelihood():
    each = task_gradients()
    weights = {"kind": 1.0, "size": 3.0}
    logs, moved, model = step("uncertainty", loss_weights=weights)
    factor = {"kind": 1.0, "size": 1.5}  # 3 times 1/2 of a squared error
    slope = moved.pop("tasks/log_variance")
    expected = [1.0 * (0.5 - each["kind"][0]), 3.0 * (0.5 - 0.5 * each["size"][0])]
    np.testing.assert_allclose(slope, expected, rtol=1e-5)
    for path, value in moved.items():
        total = sum(factor[h] * each[h][1][path] for h in each)
        np.testing.assert_allclose(value, total, rtol=1e-4, atol=1e-7, err_msg=path)
    assert logs["size_weight"] == pytest.approx(1.5)
    later = model.train_on_batch(*batch(), return_dict=True)["kind_weight"]  # a mean of two steps
    assert 2 * later - 1.0 == pytest.approx(np.exp(slope[0]), rel=1e-5)


def test_pcgrad_projects_the_shared_gradients():
    heads = ("kind", "size", "tags")
    each = task_gradients(heads)
    weights = {"kind": 1.0, "size": 2.0, "tags": 0.5}
    logs, moved, model = step("pcgrad", heads, loss_weights=weights)
    paths = shared(moved)
    g = np.stack([weights[h] * flat(each[h][1], paths) for h in heads])
    seed = tf.constant([0, 0], tf.int64)
    coefficients = model._mm_balance.method.coefficients(tf.constant(g @ g.T), seed).numpy()
    np.testing.assert_allclose(flat(moved, paths), coefficients @ g, rtol=1e-3, atol=1e-6)
    assert np.abs(coefficients - 1.0).max() > 1e-3, "there must be a conflict to resolve"
    for path in set(moved) - set(paths):
        total = sum(weights[h] * each[h][1][path] for h in heads)
        np.testing.assert_allclose(moved[path], total, rtol=1e-4, atol=1e-7)


def test_gradnorm_steps_once_the_step_is_done():
    each = task_gradients()
    _, _, model = step(mk.training.tasks("gradnorm", alpha=1.0, rate=0.1))
    paths = shared(each["kind"][1], last=True)
    norms = np.array([np.linalg.norm(flat(each[h][1], paths)) for h in each])
    losses = np.array([each[h][0] for h in each])
    expected = stepped(*(tf.constant(v) for v in (np.ones(2), losses, losses, norms)), 1.0, 0.1)
    held = values(model)
    np.testing.assert_allclose(held["tasks/weights"], expected, rtol=1e-4)
    np.testing.assert_allclose(held["tasks/first_losses"], losses, rtol=1e-5)


def test_a_task_without_a_label_takes_no_part():
    x, y = batch()
    masks = {"kind_mask": np.zeros(6, bool), "size_mask": np.ones(6, bool)}
    for way in ("uncertainty", "gradnorm", "pcgrad"):
        model = build(way)
        before = values(model)
        logs = model.train_on_batch(x, {**y, **masks}, return_dict=True)
        after = values(model)
        assert logs["kind_loss"] == 0.0 and logs["kind_gradient_norm"] == 0.0
        for path, value in after.items():
            assert np.isfinite(value).all() or "seed" in path, (way, path)
        if way == "uncertainty":
            assert after["tasks/log_variance"][0] == before["tasks/log_variance"][0]
        if way == "gradnorm":
            assert after["tasks/first_losses"][0] == 0.0 < after["tasks/first_losses"][1]
            np.testing.assert_allclose(after["tasks/weights"], 1.0, rtol=1e-6)


def test_a_guarded_step_that_is_not_finite_changes_no_weight(tmp_path):
    model = build("gradnorm")
    x, y = batch()
    y["size"][0] = np.inf
    before = values(model)
    guard = mk.training.NonFiniteGuard(tmp_path, "skip")
    data = tf.data.Dataset.from_tensors((x, y))
    model.fit(data, verbose=0, callbacks=[guard])
    for path in ("tasks/weights", "tasks/first_losses"):
        np.testing.assert_array_equal(values(model)[path], before[path])


def test_an_objective_beside_keeps_its_weight():
    keras.utils.set_random_seed(3)
    heads = {"match": mk.objectives.Contrastive(4), **{h: HEADS[h]() for h in ("kind", "size")}}
    model = mk.assemble(SPECS, heads=heads, hidden_dim=4)
    model.compile("sgd", jit=False, tasks="pcgrad")
    logs = model.train_on_batch(*batch(), return_dict=True)
    assert {"match_loss", "kind_size_cosine"} <= set(logs) and "match_weight" not in logs
    total = logs["match_loss"] + logs["kind_loss"] + logs["size_loss"]
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


# Replicas, resume, files, TensorBoard


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("task_replicas")


@pytest.mark.parametrize(
    "name",
    [
        "uncertainty, xla, micro-batches",
        "gradnorm, sample weights, uneven",
        "dwa",
        "pcgrad, a replica without rows",
    ],
)
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs; measured 7.5e-7 after 12 steps.
    assert cases[name]["apart"] <= 2e-6, cases[name]["worst"]
    assert cases[name]["moved"] > 1e-3
    assert {"kind_weight", "size_tags_cosine", "val_size_loss"} <= set(cases[name]["names"])
    assert "val_kind_weight" not in cases[name]["names"]


@pytest.mark.parametrize("way", ["gradnorm", "dwa"])
def test_an_interrupted_run_ends_in_the_same_bits(way, tmp_path):
    def resumed(folder, *extra):
        data = tf.data.Dataset.from_tensor_slices(batch(rows=12)).batch(4)
        model = build(way, optimizer=keras.optimizers.SGD(0.05))
        callbacks = [mk.training.Resume(folder, every_steps=2), *extra]
        log = model.fit(data, epochs=4, verbose=0, callbacks=callbacks).history
        return values(model), log

    whole, log = resumed(tmp_path / "whole", Interrupt("never", 0))
    with pytest.raises(KeyboardInterrupt):
        resumed(tmp_path / "cut", Interrupt("step", 9))
    again, log_again = resumed(tmp_path / "cut", Interrupt("never", 0))
    for path, value in whole.items():
        np.testing.assert_array_equal(again[path], value, err_msg=path)
    assert log_again == log
    assert len({round(w, 6) for w in log["kind_weight"]}) >= 2


def test_files_and_tensorboard(tmp_path):
    model = build(mk.training.tasks("gradnorm", alpha=0.7), optimizer="adam")
    data = tf.data.Dataset.from_tensor_slices(batch()).batch(3)
    callbacks = mk.training.callbacks(tmp_path / "run", histogram_freq=0)
    model.fit(data, validation_data=data, verbose=0, callbacks=callbacks)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again, bare = keras.models.load_model(path), keras.models.load_model(path, compile=False)
    assert json.dumps(again.get_compile_config()["tasks"])
    assert again._mm_balance.method.alpha == 0.7
    for name, value in values(model).items():
        np.testing.assert_array_equal(values(again)[name], value, err_msg=name)
    assert not any(name.startswith("tasks/") for name in values(bare))
    x, _ = batch()
    for other in (again, bare):
        np.testing.assert_array_equal(
            other.predict(x, verbose=0)["kind"], model.predict(x, verbose=0)["kind"]
        )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "train"))
    events.Reload()
    wanted = {"epoch_kind_loss", "epoch_kind_weight", "epoch_kind_size_cosine"}
    assert wanted <= set(events.Tags()["tensors"] + events.Tags()["scalars"])


def test_float16_measures_without_the_scale():
    each = task_gradients()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=1024.0)
    logs, _, _ = step("gradnorm", optimizer=scaled)
    a = flat(each["kind"][1], shared(each["kind"][1], last=True))
    assert logs["kind_gradient_norm"] == pytest.approx(np.linalg.norm(a), rel=1e-4)


@pytest.mark.parametrize("way", ["uncertainty", "pcgrad"])
def test_training_lowers_every_loss(way):
    model = build(way, optimizer=keras.optimizers.Adam(0.02))
    data = tf.data.Dataset.from_tensors(batch()).repeat(20)
    log = model.fit(data, epochs=3, verbose=0).history
    assert log["kind_loss"][-1] < log["kind_loss"][0] and log["size_loss"][-1] < log["size_loss"][0]


# Errors


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gradnrm", {}, "Unknown way to weigh tasks 'gradnrm'.*Did you mean 'gradnorm'"),
        ("fixed", {"shared": "first"}, "`shared`.*'first'"),
        ("gradnorm", {"alpha": -1.0}, "`alpha` must lie between 0"),
        ("dwa", {"temperature": 0.0}, "`temperature` must lie between 0.001"),
        ("pcgrad", {"seed": -1}, "`seed` must be a whole number"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        mk.training.tasks(name, **options)


def test_what_does_not_fit_the_model_is_refused():
    with pytest.raises(ValueError, match=r"two heads or more.*Received: \['kind'\]"):
        build("fixed", heads=("kind",))
    with pytest.raises(ValueError, match="Received: balance='probe', tasks='dwa'"):
        build("dwa", balance="probe")
    with pytest.raises(ValueError, match="which must be above 0. Received: {'kind': 0.0"):
        build("gradnorm", loss_weights={"kind": 0.0})


@pytest.mark.parametrize(
    ("way", "kept"),
    [
        ("uncertainty", ["tasks/log_variance"]),
        (mk.training.tasks("uncertainty"), ["tasks/log_variance"]),
        ("gradnorm", []),
        (None, []),
    ],
)
def test_a_recipe_does_not_decay_learnt_variances(monkeypatch, way, kept):
    asked = []

    def made(*args, no_decay, **kwargs):
        asked.append(no_decay)
        raise InterruptedError

    monkeypatch.setattr(optimizers, "optimizer", made)
    data = SimpleNamespace(train=lambda rows: SimpleNamespace(steps=3))
    model = SimpleNamespace(layers=[], output_names=[])
    with pytest.raises(InterruptedError):
        recipe.train(model, data, {"tasks": way})
    assert asked == [kept]
