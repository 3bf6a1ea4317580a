"""Remedies for imbalanced modalities: formulas, masks, replicas, resume, files, and their use."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mmkeras as mk
from mmkeras.training.balancing.ogm_ge import coefficients
from tests import session_loader
from tests.training.interrupted import Interrupt

SPECS = {
    "a": mk.Vector(size=3, normalize=False),
    "b": mk.Vector(size=2, normalize=False),
    "c": mk.Vector(size=2, normalize=False),
}
HEADS = {
    "kind": lambda: mk.heads.Classifier(("x", "y", "z")),
    "size": lambda: mk.heads.Regressor(),
}
BATCH = 5


def batch(rows=BATCH, heads=("kind",), seed=0, names=("a", "b")):
    rng = np.random.default_rng(seed)
    x = {}
    for m in names:
        x[m] = rng.standard_normal((rows, *SPECS[m].shape)).astype("float32")
        x[f"{m}_mask"] = rng.random(rows) < 0.7
    y = {
        "kind": rng.integers(0, 3, rows).astype("int32"),
        "size": rng.standard_normal((rows, 1)).astype("float32"),
    }
    weights = {h: rng.uniform(0.5, 1.5, rows).astype("float32") for h in heads}
    return x, {h: y[h] for h in heads}, weights


def build(remedy, heads=("kind",), names=("a", "b"), fusion="concatenation", **options):
    keras.utils.set_random_seed(3)
    model = mk.assemble(
        {m: SPECS[m] for m in names},
        {m: {"name": "mlp", "hidden_dim": 7, "num_layers": 1} for m in names},
        fusion,
        {h: HEADS[h]() for h in heads},
        hidden_dim=4,
    )
    options = {"optimizer": keras.optimizers.SGD(0.1), "jit": False, **options}
    model.compile(balance=remedy, **options)
    return model


def values(model):
    return {v.path: v.numpy() for v in model.variables}


# Formulas, against NumPy


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_coefficients_are_the_papers_for_two_modalities(alpha):
    rng = np.random.default_rng(1)
    for _ in range(5):
        s = rng.random((2, 9)).sum(axis=1)
        ratio = np.array([s[0] / s[1], s[1] / s[0]])
        expected = np.where(ratio > 1, 1 - np.tanh(alpha * ratio), 1.0)
        found = coefficients(tf.constant(s), tf.constant([9.0, 9.0], tf.float64), alpha)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert (np.sum(expected == 1.0) == 1) or alpha == 0.0


def test_coefficients_of_three_compare_means_with_those_of_the_others():
    scores, counts = np.array([6.0, 1.0, 0.0]), np.array([8.0, 4.0, 0.0])
    found = coefficients(tf.constant(scores), tf.constant(counts), 0.3).numpy()
    # c is absent in the whole batch: a, 0.75, is compared with b alone, 0.25.
    np.testing.assert_allclose(found, [1 - np.tanh(0.3 * 3.0), 1.0, 1.0], rtol=1e-12)
    scores, counts = np.array([6.0, 1.0, 2.0]), np.array([8.0, 4.0, 4.0])
    found = coefficients(tf.constant(scores), tf.constant(counts), 0.3).numpy()
    np.testing.assert_allclose(found, [1 - np.tanh(0.3 * 0.75 / 0.375), 1.0, 1.0], rtol=1e-12)
    alone = coefficients(tf.constant([5.0, 0.0]), tf.constant([5.0, 0.0]), 0.3).numpy()
    assert alone.tolist() == [1.0, 1.0]


def test_noise_has_the_spread_of_the_gradient():
    remedy = mk.training.balance("ogm_ge", alpha=0.5, seed=4)
    gradient = tf.random.stateless_normal((40, 50), [1, 2], stddev=0.3) + 0.2
    seed = tf.constant([3, 7], tf.int64)
    noise = remedy.modulated(gradient, 0.25, seed).numpy() - 0.25 * gradient.numpy()
    assert noise.std() == pytest.approx(gradient.numpy().std(), rel=0.05)
    assert abs(noise.mean()) < 0.03
    np.testing.assert_array_equal(
        noise, remedy.modulated(gradient, 0.25, seed).numpy() - 0.25 * gradient.numpy()
    )
    for other in ([4, 7], [3, 8]):
        later = remedy.modulated(gradient, 0.25, tf.constant(other, tf.int64))
        assert np.abs(later.numpy() - 0.25 * gradient.numpy() - noise).max() > 0.1
    quiet = mk.training.balance("ogm_ge", alpha=0.5, noise=False, steps=8)
    np.testing.assert_array_equal(quiet.modulated(gradient, 0.25, seed), 0.25 * gradient)
    after = quiet.modulated(gradient, 0.25, tf.constant([3, 8], tf.int64))
    np.testing.assert_array_equal(after, gradient)


def test_blending_weights_are_gain_over_squared_overfitting():
    rng = np.random.default_rng(2)
    names = ("a", "b", "joint")
    before = {n: tuple(rng.uniform(1.0, 2.0, 2)) for n in names}
    after = {n: tuple(rng.uniform(0.2, 0.9, 2)) for n in names}
    raw = {}
    for n in names:
        (t0, v0), (t1, v1) = before[n], after[n]
        raw[n] = (v0 - v1) / ((v1 - t1) - (v0 - t0)) ** 2
    total = sum(raw.values())
    found = mk.training.blending_weights(before, after)
    assert found == pytest.approx({n: r / total for n, r in raw.items()}, rel=1e-9)
    after["a"] = (0.1, 2.5)  # it has only overfitted
    held = mk.training.blending_weights(before, after, floor=0.1)
    assert held["a"] == pytest.approx(0.1) and sum(held.values()) == pytest.approx(1.0)
    assert held["b"] == pytest.approx(0.1 + 0.7 * raw["b"] / (raw["b"] + raw["joint"]))
    worse = {n: (0.1, 2.5) for n in names}
    same = mk.training.blending_weights(before, worse)
    assert list(same.values()) == pytest.approx([1 / 3] * 3)


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def test_losses_scores_and_gradients_of_two_heads():
    """Figures, by the heads' own weights in NumPy, and the gradient that their loss makes."""
    heads = ("kind", "size")
    weight = {"a": 0.5, "b": 2.0}
    remedy = mk.training.balance("auxiliary", weight=weight)
    model = build(remedy, heads, loss_weights={"kind": 1.0, "size": 0.3})
    x, y, weights = batch(rows=9, heads=heads)
    start = values(model)
    logs = model.train_on_batch(x, y, weights, return_dict=True)
    for m in ("a", "b"):
        encoder = next(layer for layer in model.layers if layer.name == f"{m}_mlp")
        now = [v.numpy() for v in encoder.variables]
        for v in encoder.variables:
            v.assign(start[v.path])
        tokens = encoder({k: x[k] for k in (m, f"{m}_mask")})["tokens"].numpy()[:, 0]
        for v, value in zip(encoder.variables, now, strict=True):
            v.assign(value)
        there, losses, shares, grads = x[f"{m}_mask"].astype("float64"), [], [], {}
        for head, scale in (("kind", 1.0), ("size", 0.3)):
            path = f"modality_heads/{m}_{head}/dense"
            said = tokens @ start[f"{path}/kernel"] + start[f"{path}/bias"]
            if head == "kind":
                each = -log_softmax(said)[np.arange(9), y["kind"]]
                slope = np.exp(log_softmax(said)) - np.eye(3)[y["kind"]]
            else:
                each = ((said - y["size"]) ** 2)[:, 0]
                slope = 2 * (said - y["size"])
            share = there * weights[head]
            losses.append(each), shares.append(share)
            grads[path] = weight[m] * scale * (share[:, None] * slope / 9).sum(axis=0)
        losses, shares = np.stack(losses), np.stack(shares)
        expected = (losses * shares).sum() / shares.sum()
        assert logs[f"{m}_loss"] == pytest.approx(expected, rel=1e-5)
        score = (np.exp(-losses) * shares).sum() / shares.sum()
        assert logs[f"{m}_score"] == pytest.approx(score, rel=1e-5)
        end = values(model)
        for path, gradient in grads.items():
            moved = (start[f"{path}/bias"] - end[f"{path}/bias"]) / 0.1
            np.testing.assert_allclose(moved, gradient, rtol=1e-4, atol=1e-6)
            moved = np.abs(start[f"{path}/kernel"] - end[f"{path}/kernel"])
            assert moved.max() > 1e-5


def test_gradient_norms_are_of_each_encoder():
    model = build("probe", optimizer=keras.optimizers.SGD(1.0))
    start = values(model)
    logs = model.train_on_batch(*batch(), return_dict=True)
    end = values(model)
    for m in ("a", "b"):
        moved = [start[p] - end[p] for p in start if p.startswith(f"{m}_")]
        expected = np.sqrt(sum((d.astype("float64") ** 2).sum() for d in moved))
        assert logs[f"{m}_gradient_norm"] == pytest.approx(expected, rel=1e-4)


def test_ogm_multiplies_the_gradient_of_the_leading_encoder():
    ends = {}
    for name, remedy in (
        ("probe", "probe"),
        ("ogm", mk.training.balance("ogm_ge", alpha=0.5, noise=False)),
    ):
        model = build(remedy, optimizer=keras.optimizers.SGD(1.0))
        start = values(model)
        logs = model.train_on_batch(*batch(), return_dict=True)
        ends[name] = {p: start[p] - v for p, v in values(model).items()}
    factors = {m: logs[f"{m}_coefficient"] for m in ("a", "b")}
    means = {m: logs[f"{m}_score"] for m in ("a", "b")}
    lead = max(means, key=means.get)
    ratio = max(means.values()) / min(means.values())
    assert factors.pop(lead) == pytest.approx(1 - np.tanh(0.5 * ratio), rel=1e-5)
    assert list(factors.values()) == [1.0]
    for path, plain in ends["probe"].items():
        factor = logs[f"{lead}_coefficient"] if path.startswith(f"{lead}_") else 1.0
        np.testing.assert_allclose(ends["ogm"][path], factor * plain, rtol=1e-4, atol=1e-6)


def test_blending_minimises_the_weighted_sum():
    weights = {"a": 0.2, "b": 0.0, "joint": 0.5}
    moved = {}
    for name, remedy in (
        ("plain", None),
        ("blended", mk.training.balance("blending", weights=weights)),
    ):
        model = build(remedy, optimizer=keras.optimizers.SGD(1.0))
        start = values(model)
        logs = model.train_on_batch(*batch(), return_dict=True)
        moved[name] = {p: start[p] - v for p, v in values(model).items()}
    assert {n: logs[f"{n}_weight"] for n in weights} == pytest.approx(weights)
    assert logs["joint_loss"] * batch()[2]["kind"].mean() == pytest.approx(logs["loss"], rel=1e-5)
    for path, plain in moved["plain"].items():
        if not path.startswith("a_"):  # the joint loss alone: b's own weighs nothing
            np.testing.assert_allclose(moved["blended"][path], 0.5 * plain, rtol=1e-4, atol=1e-6)
    assert not np.any(moved["blended"]["modality_heads/b_kind/dense/kernel"])
    assert np.any(moved["blended"]["modality_heads/a_kind/dense/kernel"])


# Masks


def test_an_absent_modality_has_no_loss_and_no_gradient():
    x, y, weights = batch()
    x["a_mask"][:], x["b_mask"][:] = False, True
    ends = []
    for content in (0.0, np.nan):
        model = build("auxiliary")
        start = values(model)
        logs = model.train_on_batch({**x, "a": x["a"] + content}, y, weights, return_dict=True)
        ends.append(values(model))
        assert logs["a_loss"] == logs["a_score"] == logs["a_gradient_norm"] == 0.0
        for path, value in ends[0].items():
            if path.startswith(("a_", "modality_heads/a_")):
                np.testing.assert_array_equal(value, start[path])
            else:
                assert "seed" in path or np.isfinite(value).all()
    for path in ends[0]:
        np.testing.assert_array_equal(ends[0][path], ends[1][path])


def test_a_probe_changes_nothing():
    rows = tf.data.Dataset.from_tensor_slices(batch(rows=20)).batch(5)
    ends, logs = [], []
    for remedy in (None, "probe"):
        model = build(remedy, fusion="late_averaging")  # whose heads add losses of their own
        logs.append(model.fit(rows, epochs=2, verbose=0, validation_data=rows).history)
        ends.append(values(model))
    plain, probed = ends
    for path, value in plain.items():
        # TensorFlow orders the sums of another graph in another way; measured 3e-8.
        np.testing.assert_allclose(probed[path], value, atol=3e-7, err_msg=path)
    for name, series in logs[0].items():
        assert logs[1][name] == pytest.approx(series, rel=1e-6), name
    more = {"a_loss", "a_score", "b_loss", "b_score"}
    more |= {f"val_{name}" for name in more} | {"a_gradient_norm", "b_gradient_norm"}
    assert set(logs[1]) - set(logs[0]) == more
    assert not any(path.startswith("modality_heads") for path in plain)


# Replicas, resume, files


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("balance_replicas")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        # The order of float32 sums is all that differs; measured 1.2e-7.
        ("ogm_ge, clipped, a replica without rows", 1e-6),
        ("ogm_ge, xla, micro-batches", 1e-6),
        # The weights divide by the square of a small difference of losses; measured 1.1e-5.
        ("blending, uneven", 1e-4),
    ],
)
def test_one_device_equals_two_replicas(cases, name, limit):
    assert cases[name]["apart"] <= limit, cases[name]["worst"]
    assert cases[name]["moved"] > 1e-3
    assert {"a_loss", "a_score", "a_gradient_norm", "val_a_loss"} <= set(cases[name]["names"])


def resumed(folder, remedy, *extra, epochs=4):
    data = tf.data.Dataset.from_tensor_slices(batch(rows=20)).batch(5)
    model = build(remedy)
    log = model.fit(
        data,
        epochs=epochs,
        verbose=0,
        validation_data=data,
        callbacks=[mk.training.Resume(folder, every_steps=3), *extra],
    )
    return values(model), log.history


def test_an_interrupted_run_ends_in_the_same_bits(tmp_path):
    remedy = mk.training.balance("blending", every=1)
    whole, log = resumed(tmp_path / "whole", remedy, Interrupt("never", 0))
    with pytest.raises(KeyboardInterrupt):
        resumed(tmp_path / "cut", remedy, Interrupt("step", 14))
    again, log_again = resumed(tmp_path / "cut", remedy, Interrupt("never", 0))
    for path, value in whole.items():
        np.testing.assert_array_equal(again[path], value, err_msg=path)
    assert log_again == log
    assert len({round(w, 6) for w in log["a_weight"]}) >= 3  # it was changed twice


def test_files_hold_the_heads_and_leave_the_outputs_alone(tmp_path):
    model = build(mk.training.balance("blending", every=1, floor=0.1))
    x, y, weights = batch()
    model.train_on_batch(x, y, weights)
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    bare = keras.models.load_model(path, compile=False)
    assert json.dumps(again.get_compile_config()["balance"])
    assert again._mm_balance.remedy.floor == 0.1
    held = values(again)
    for name, value in values(model).items():
        np.testing.assert_array_equal(held[name], value, err_msg=name)
    assert any(name.startswith("modality_heads") for name in held)
    assert not any(name.startswith("modality_heads") for name in values(bare))
    wanted = model.predict(x, verbose=0)
    assert set(wanted) == {"kind"}
    for other in (again, bare):
        np.testing.assert_array_equal(other.predict(x, verbose=0)["kind"], wanted["kind"])
    mk.export.saved_model(
        model,
        {m: SPECS[m] for m in ("a", "b")},
        tmp_path / "serving",
        signatures=("serving_default",),
    )
    out = session_loader.ask(tmp_path / "serving", {"a": x["a"], "b": x["b"]})
    assert {name.partition("_")[0] for name in out} == {"kind", "bad"}  # no modality's head
    x["a_mask"][:], x["b_mask"][:] = True, True
    np.testing.assert_allclose(out["kind"], model.predict(x, verbose=0)["kind"], atol=1e-6)
    again.compile("sgd", jit=False)  # without a remedy
    assert not any(name.startswith("modality_heads") for name in values(again))
    assert set(again.train_on_batch(x, y, return_dict=True)) == {"loss", "accuracy"}


# What it is for


def lopsided(rows, seed):
    """A label that `easy` shows at once, though not always, and `hard` always, by a product."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, rows)
    sign = 2.0 * label - 1.0
    easy, hard = rng.standard_normal((2, rows, 4)).astype("float32")
    easy[:, 0] += 2.2 * sign
    hard[:, 1] = np.abs(hard[:, 1]) * np.sign(hard[:, 0]) * sign
    there = np.ones(rows, bool)
    return {"easy": easy, "easy_mask": there, "hard": hard, "hard_mask": there}, label


def own_accuracy(model, x, label, half):
    """Accuracy on the second half of a linear classifier on the tokens of `hard` alone."""
    encoder = next(layer for layer in model.layers if layer.name == "hard_mlp")
    tokens = encoder({k: x[k] for k in ("hard", "hard_mask")})["tokens"].numpy()[:, 0]
    tokens = np.concatenate([tokens, np.ones((len(tokens), 1))], axis=1)
    weights = np.linalg.lstsq(tokens[:half], 2.0 * label[:half] - 1.0, rcond=None)[0]
    return np.mean((tokens[half:] @ weights > 0) == (label[half:] > 0))


def test_auxiliary_losses_teach_the_encoder_that_is_left_behind(tmp_path):
    x, label = lopsided(1600, seed=1)
    train = ({k: v[:800] for k, v in x.items()}, {"answer": label[:800]})
    train = tf.data.Dataset.from_tensor_slices(train).batch(32)
    found = {}
    for remedy in ("probe", "auxiliary"):
        keras.utils.set_random_seed(1)
        model = mk.assemble(
            {m: mk.Vector(size=4, normalize=False) for m in ("easy", "hard")},
            {m: {"name": "mlp", "hidden_dim": 16} for m in ("easy", "hard")},
            "concatenation",
            {"answer": mk.heads.Classifier(("no", "yes"))},
            hidden_dim=16,
        )
        model.compile(keras.optimizers.SGD(0.05), balance=remedy, jit=False)
        board = keras.callbacks.TensorBoard(str(tmp_path / remedy))
        log = model.fit(train, epochs=6, verbose=0, callbacks=[board]).history
        norms = [log[f"{m}_gradient_norm"][-1] for m in ("hard", "easy")]
        found[remedy] = own_accuracy(model, x, label, 800), norms[0] / sum(norms)
    # Measured: accuracy 0.75 and 0.93, share of the gradient 0.25 and 0.77.
    assert found["probe"][0] < 0.85 < found["auxiliary"][0]
    assert found["probe"][1] < 0.5 < found["auxiliary"][1]
    written = EventAccumulator(str(tmp_path / "auxiliary" / "train"), {"tensors": 0}).Reload()
    tags = set(written.Tags()["tensors"])
    assert {"epoch_hard_loss", "epoch_hard_score", "epoch_hard_gradient_norm"} <= tags


# Errors


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ogm", {}, "Unknown remedy 'ogm'.*Did you mean 'ogm_ge'"),
        ("auxiliary", {"weight": -1.0}, "`weight` must lie between 0"),
        ("ogm_ge", {"alpha": "x"}, "`alpha` must be a number"),
        ("ogm_ge", {"steps": 0}, "`steps` must be a whole number of at least 1"),
        ("blending", {"every": 0}, "`every` must be a whole number of at least 1"),
        ("blending", {"floor": 0.7}, "`floor` must lie between 0.0 and 0.5"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        mk.training.balance(name, **options)


def test_what_does_not_fit_the_model_is_refused():
    for remedy, message in (
        (
            mk.training.balance("auxiliary", weight={"image": 1.0}),
            "Unknown modality 'image' in `weight`",
        ),
        (mk.training.balance("blending", weights={"a": 1.0}), r"every modality and 'joint': \['a'"),
        (mk.training.balance("blending", floor=0.4), "`floor` must be at most 1 / 3"),
    ):
        with pytest.raises(ValueError, match=message):
            build(remedy)
    with pytest.raises(ValueError, match=r"Received: encoders of \['a'\]"):
        build("auxiliary", names=("a",))
    inputs = {"a": keras.Input((3,), name="a")}
    plain = mk.Model(inputs, keras.layers.Dense(1)(inputs["a"]))
    with pytest.raises(ValueError, match="an encoder for each of two or more"):
        plain.compile("sgd", "mse", balance="probe")
    model = build(mk.training.balance("blending", every=3))
    data = tf.data.Dataset.from_tensor_slices(batch()).batch(5)
    for held in ({}, {"validation_data": data, "validation_freq": 2}):
        with pytest.raises(ValueError, match="validation data at the end of every super-epoch"):
            model.fit(data, verbose=0, **held)
