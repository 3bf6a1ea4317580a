"""Classifier, MultiLabel and Regressor: contract, float32, default loss and metrics, errors."""

import inspect

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.heads import Classifier, Head, MultiLabel, Regressor
from tests import contract
from tests.layers import formulas

B, T, D = 5, 3, 7
CLASSES = ("red", "green", "blue", "grey")
MAKE = {
    "classifier": lambda **kw: Classifier(CLASSES, **kw),
    "multi_label": lambda **kw: MultiLabel(CLASSES, **kw),
    "regressor": lambda **kw: Regressor(2, **kw),
}
UNITS = {"classifier": 4, "multi_label": 4, "regressor": 2}
every_head = pytest.mark.parametrize("name", MAKE)


def fused(rng, dtype="float32"):
    return {
        "tokens": rng.standard_normal((B, T, D)).astype(dtype),
        "mask": np.ones((B, T), bool),
        "pooled": rng.standard_normal((B, D)).astype(dtype),
    }


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
@every_head
def test_contract(name, check, tmp_path):
    check(contract.Unit(MAKE[name], lambda rng: (fused(rng),), float32=True), tmp_path)


def test_every_head_is_here():
    public = {cls for cls in vars(mk.heads).values() if inspect.isclass(cls)} - {Head}
    elsewhere = {mk.heads.Decision, mk.heads.Dirichlet}  # tests/heads/test_decision.py, ..dirichlet
    here = {type(make()) for make in MAKE.values()}
    assert {cls for cls in public if issubclass(cls, Head)} == here | elsewhere


@every_head
def test_logits_are_one_dense_layer_on_the_pooled_vector(name, rng):
    head, inputs = MAKE[name](name="unit"), fused(rng)
    head(inputs)
    contract.randomize(head.weights)
    found = contract.as_numpy(head(inputs))
    w = formulas.weights_of(head)
    assert set(w) == {"dense/kernel", "dense/bias"}
    assert found.shape == (B, UNITS[name])
    expected = formulas.dense(inputs["pooled"].astype("float64"), formulas.under(w, "dense"))
    np.testing.assert_allclose(found, expected, atol=3e-6, rtol=0)  # measured: 3e-7
    changed = {**inputs, "tokens": inputs["tokens"] + 1, "mask": ~inputs["mask"]}
    contract.assert_same_bits(head(changed), found)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_head
def test_float32_under_mixed_precision(name, policy, rng):
    keras.mixed_precision.set_global_policy(policy)
    for kwargs in ({}, {"dtype": policy}):
        head = MAKE[name](**kwargs)
        half = keras.DTypePolicy(policy).compute_dtype
        inputs = {
            k: keras.ops.cast(v, half) if v.dtype != bool else v for k, v in fused(rng).items()
        }
        assert head(inputs).dtype == "float32"
        assert {v.dtype for v in head.weights} == {"float32"}
        assert head.compute_dtype == head.dense.compute_dtype == "float32"


@every_head
def test_config_round_trip(name):
    head = MAKE[name](dropout=0.25, name="answer")
    config = head.get_config()
    other = type(head).from_config(config)
    assert other.get_config() == config
    assert (other.dropout, other.units, other.name) == (0.25, UNITS[name], "answer")
    assert getattr(other, "classes", None) == getattr(head, "classes", None)


@every_head
def test_dropout_only_in_training(name, rng):
    head, inputs = MAKE[name](dropout=0.5), fused(rng)
    contract.assert_same_bits(head(inputs), head(inputs, training=False))
    first, second = (contract.as_numpy(head(inputs, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)


# Default loss and metrics against NumPy ---------------------------------------------------------


def log_softmax(x):
    return np.log(formulas.softmax(x.astype("float64")))


def test_classifier_defaults(rng):
    logits = 3 * rng.standard_normal((B, 4)).astype("float32")
    truth = rng.integers(0, 4, B)
    head = Classifier(CLASSES)
    expected = -log_softmax(logits)[np.arange(B), truth].mean()
    assert float(head.default_loss()(truth, logits)) == pytest.approx(expected, abs=1e-5)
    (accuracy,) = head.default_metrics()
    assert accuracy.name == "accuracy"
    accuracy.update_state(truth, logits)
    assert float(accuracy.result()) == pytest.approx((logits.argmax(1) == truth).mean())


def roc_area(truth, score):
    """Share of (positive, negative) pairs in the right order."""
    pairs = score[truth == 1][:, None] - score[truth == 0][None, :]
    return (pairs > 0).mean() + 0.5 * (pairs == 0).mean()


def test_multi_label_defaults(rng):
    logits = 2 * rng.standard_normal((200, 4)).astype("float32")
    truth = (rng.random((200, 4)) < formulas.sigmoid(logits)).astype("float32")
    head = MultiLabel(CLASSES)
    p = formulas.sigmoid(logits.astype("float64"))
    expected = -(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean()
    assert float(head.default_loss()(truth, logits)) == pytest.approx(expected, abs=1e-5)
    accuracy, auc = head.default_metrics()
    assert (accuracy.name, auc.name) == ("accuracy", "auc")
    for metric in (accuracy, auc):
        metric.update_state(truth, logits)
    assert float(accuracy.result()) == pytest.approx(((logits > 0) == truth).mean(), abs=1e-6)
    area = roc_area(truth.ravel(), logits.ravel())
    assert float(auc.result()) == pytest.approx(area, abs=5e-3)  # 200 thresholds; measured 4e-4


def test_regressor_defaults(rng):
    found, truth = (rng.standard_normal((B, 2)).astype("float32") for _ in range(2))
    head = Regressor(2)
    assert float(head.default_loss()(truth, found)) == pytest.approx(((found - truth) ** 2).mean())
    (mae,) = head.default_metrics()
    mae.update_state(truth, found)
    assert (mae.name, float(mae.result())) == ("mae", pytest.approx(np.abs(found - truth).mean()))


@every_head
def test_defaults_are_new_and_serialisable(name):
    head = MAKE[name]()
    assert head.default_loss() is not head.default_loss()
    for thing in (head.default_loss(), *head.default_metrics()):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(thing))
        assert again.get_config() == thing.get_config()


# Class names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Classifier, MultiLabel])
def test_class_names(cls):
    assert cls(3).classes == ("0", "1", "2")
    assert cls(["a", "b"]).classes == ("a", "b")
    assert cls(np.array(["a", "b"])).classes == ("a", "b")
    assert cls(range(5, 8)).classes == ("5", "6", "7")
    assert cls(np.int64(3)).units == cls((True, False, None)).units == 3


@pytest.mark.parametrize("classes", [1, 0, -2, [], ["a"], ["a", "a"], [1, "1"]])
@pytest.mark.parametrize("cls", [Classifier, MultiLabel])
def test_wrong_class_names(cls, classes):
    with pytest.raises(ValueError, match="`classes` must hold at least two different names.*Rec"):
        cls(classes)


@pytest.mark.parametrize("classes", ["cat", b"cat", None, 2.5, True, {"a", "b"}])
@pytest.mark.parametrize("cls", [Classifier, MultiLabel])
def test_not_class_names(cls, classes):
    """A string would silently become one class per letter, and a set has no order."""
    with pytest.raises(ValueError, match="`classes` must .*Received: "):
        cls(classes)


@pytest.mark.parametrize("units", [0, -1, 1.5, "2"])
def test_wrong_units(units):
    with pytest.raises(ValueError, match="`units` must be a whole number of at least 1.*Received"):
        Regressor(units)


@every_head
def test_wrong_dropout(name):
    with pytest.raises(ValueError, match="`dropout` must lie between 0.0 and 1.0.*Received"):
        MAKE[name](dropout=2)


def test_compile_asks_for_the_loss_of_a_head_without_default():
    pooled = keras.Input((D,), name="pooled")
    model = mk.Model({"pooled": pooled}, {"own": Head(name="own")({"pooled": pooled})})
    with pytest.raises(ValueError, match=r"a loss for every output.*\['own'\].*Pass `loss="):
        model.compile("sgd")
    model.compile("sgd", loss={"own": "mse"})
