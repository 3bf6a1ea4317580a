"""Dirichlet: contract, evidence, the evidential loss against SciPy, its errors."""

import keras
import numpy as np
import pytest
from scipy import special, stats

from mmkeras.heads import Dirichlet
from mmkeras.heads.dirichlet import EvidentialLoss
from mmkeras.layers.special import digamma, log_gamma
from tests import contract
from tests.heads.test_heads import CLASSES, B, fused
from tests.layers import formulas


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
def test_contract(check, tmp_path):
    unit = contract.Unit(
        lambda **kw: Dirichlet(CLASSES, **kw), lambda rng: (fused(rng),), float32=True
    )
    check(unit, tmp_path)


def test_softmax_is_the_expected_probability(rng):
    head, inputs = Dirichlet(CLASSES, name="unit"), fused(rng)
    head(inputs)
    contract.randomize(head.weights)
    w = formulas.weights_of(head)
    evidence = np.log1p(np.exp(formulas.dense(inputs["pooled"], formulas.under(w, "dense"))))
    found = contract.as_numpy(head(inputs)).astype("float64")
    np.testing.assert_allclose(np.exp(found), 1.0 + evidence, atol=5e-6)  # measured: 5e-7
    expected = (1.0 + evidence) / (4.0 + evidence.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(formulas.softmax(found), expected, atol=1e-6)


def loss_of(truth, alpha, kl_weight):
    """The two terms, sample by sample."""
    out = []
    for y, a in zip(truth, alpha, strict=True):
        fit = sum(y * (special.digamma(a.sum()) - special.digamma(a)))
        a = y + (1.0 - y) * a
        uniform = stats.dirichlet(np.ones(len(a)))  # KL to it: what is missing to its entropy
        out.append(fit + kl_weight * (uniform.entropy() - stats.dirichlet(a).entropy()))
    return np.array(out)


@pytest.mark.parametrize("soft", [False, True])
def test_evidential_loss(soft, rng):
    alpha = 1.0 + np.abs(10.0 * rng.standard_normal((B, 4)))
    truth = rng.integers(0, 4, B)
    y = np.eye(4)[truth]
    if soft:
        truth = y = formulas.softmax(rng.standard_normal((B, 4))).astype("float32")
    head = Dirichlet(CLASSES, kl_weight=0.7)
    loss = head.default_loss()
    assert loss.kl_weight == 0.7
    found = loss.call(keras.ops.convert_to_tensor(truth), np.log(alpha).astype("float32"))
    expected = loss_of(y, alpha, 0.7)
    np.testing.assert_allclose(contract.as_numpy(found), expected, rtol=1e-5)
    assert float(loss(truth, np.log(alpha))) == pytest.approx(expected.mean(), rel=1e-5)
    (accuracy,) = head.default_metrics()
    accuracy.update_state(truth, np.log(alpha))
    right = alpha.argmax(axis=1) == y.argmax(axis=1)
    assert float(accuracy.result()) == pytest.approx(right.mean())


def test_the_fit_is_the_expected_cross_entropy(rng):
    alpha = np.array([[2.0, 5.0, 1.5]])
    draws = rng.dirichlet(alpha[0], 200_000)
    loss = EvidentialLoss(kl_weight=0.0)(np.array([1]), np.log(alpha))
    assert float(loss) == pytest.approx(-np.log(draws[:, 1]).mean(), abs=0.01)  # measured: 8e-4


def test_wrong_evidence_costs_more_than_none():
    none, wrong, right = ([[1.0, 1.0, 1.0]], [[1.0, 9.0, 1.0]], [[9.0, 1.0, 1.0]])
    for kl_weight in (0.0, 1.0):
        loss = EvidentialLoss(kl_weight)
        found = [float(loss(np.array([0]), np.log(a))) for a in (right, none, wrong)]
        assert found == sorted(found)
        assert np.isfinite(found).all()


def test_gamma_functions():
    x = np.concatenate([np.linspace(0.2, 3.0, 50), np.geomspace(3.0, 1e5, 50)])
    keras_x = keras.ops.convert_to_tensor(x, dtype="float64")
    np.testing.assert_allclose(digamma(keras_x), special.digamma(x), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(log_gamma(keras_x), special.gammaln(x), rtol=1e-9, atol=1e-9)
    single = keras.ops.cast(keras_x, "float32")
    np.testing.assert_allclose(digamma(single), special.digamma(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_gamma(single), special.gammaln(x), rtol=1e-5, atol=1e-5)


def test_config_and_errors():
    head = Dirichlet(CLASSES, kl_weight=0.3, dropout=0.2)
    assert Dirichlet.from_config(head.get_config()).get_config() == head.get_config()
    loss = head.default_loss()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.kl_weight == 0.3
    with pytest.raises(ValueError, match="`kl_weight` must lie between.*Received"):
        Dirichlet(CLASSES, kl_weight=-1.0)
