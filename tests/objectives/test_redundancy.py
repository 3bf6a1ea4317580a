"""Losses of batch statistics: NumPy, masks, weights, gradients, degenerate batches, JAX."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.objectives import barlow_twins, cca, vicreg
from tests.objectives import jax_run

LOSSES = {"vicreg": vicreg, "barlow_twins": barlow_twins, "cca": cca}
N, D = 9, 4


def pairs(rows=N, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((rows, D))
    b = 0.7 * a + 0.5 * rng.standard_normal((rows, D))
    return a.astype("float32"), b.astype("float32")


def numpy_vicreg(a, b, lam=25.0, mu=25.0, nu=1.0):
    near = ((a - b) ** 2).mean()
    spread = sum(np.maximum(1 - np.sqrt(z.var(axis=0, ddof=1) + 1e-4), 0).mean() for z in (a, b))
    crossed = 0.0
    for z in (a, b):
        c = np.cov(z.T)
        crossed += (c[~np.eye(D, dtype=bool)] ** 2).sum() / D
    return lam * near + mu * spread / 2 + nu * crossed


def numpy_barlow_twins(a, b, lam=5e-3):
    c = np.corrcoef(a.T, b.T)[:D, D:]
    return ((1 - np.diag(c)) ** 2).sum() + lam * (c[~np.eye(D, dtype=bool)] ** 2).sum()


def numpy_cca(a, b, components=None, r=1e-3):
    def inverse_root(s):
        w, v = np.linalg.eigh(s)
        return v @ np.diag(w**-0.5) @ v.T

    whole = np.cov(a.T, b.T)
    aa, ab, bb = whole[:D, :D] + r * np.eye(D), whole[:D, D:], whole[D:, D:] + r * np.eye(D)
    values = np.linalg.svd(inverse_root(aa) @ ab @ inverse_root(bb), compute_uv=False)
    return -values[:components].sum()


FORMULAS = {"vicreg": numpy_vicreg, "barlow_twins": numpy_barlow_twins, "cca": numpy_cca}


def gradients(loss, a, b, **kwargs):
    a, b = tf.constant(a), tf.constant(b)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        value = loss(a, b, **kwargs)
    return float(value), [g.numpy() for g in tape.gradient(value, [a, b])]


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_those_of_the_formula(name):
    a, b = pairs()
    value, (grad, _) = gradients(LOSSES[name], a, b)
    wide = a.astype("float64"), b.astype("float64")
    assert value == pytest.approx(FORMULAS[name](*wide), rel=1e-4)
    for i, d in ((0, 0), (3, 2), (8, 1)):
        step = np.zeros_like(wide[0])
        step[i, d] = 1e-5
        slope = FORMULAS[name](wide[0] + step, wide[1]) - FORMULAS[name](wide[0] - step, wide[1])
        assert grad[i, d] == pytest.approx(slope / 2e-5, rel=2e-3, abs=2e-4)


def test_coefficients_and_components():
    a, b = pairs()
    found = float(vicreg(a, b, invariance=1.0, variance=0.5, covariance=3.0))
    assert found == pytest.approx(numpy_vicreg(a, b, 1.0, 0.5, 3.0), rel=1e-4)
    found = float(barlow_twins(a, b, off_diagonal=0.3))
    assert found == pytest.approx(numpy_barlow_twins(a, b, 0.3), rel=1e-4)
    found = float(cca(a, b, components=2, regularization=0.1))
    assert found == pytest.approx(numpy_cca(a, b, 2, 0.1), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_masked_pairs_change_no_bit_and_weights_count_pairs(name):
    loss, (a, b) = LOSSES[name], pairs()
    mask = np.arange(N) % 3 != 1
    value, grads = gradients(loss, a, b, mask=mask)
    assert value == pytest.approx(FORMULAS[name](a[mask], b[mask]), rel=1e-4)
    other = [np.where(mask[:, None], z, np.nan).astype("float32") for z in (a, b)]
    again, same = gradients(loss, *other, mask=mask)
    assert value == again
    for one, two in zip(grads, same, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not one[~mask].any()
    weights = np.array([2, 1, 1, 0, 1, 3, 1, 1, 1], "float32")
    whole = float(loss(a, b, mask=mask, weights=weights))
    copies = np.repeat(np.arange(N), np.where(mask, weights, 0).astype(int))
    assert whole == pytest.approx(float(loss(a[copies], b[copies])), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_degenerate_batches_are_defined(name):
    loss, (a, b) = LOSSES[name], pairs()
    for rows in (0, 1):  # nothing, or one pair alone
        value, grads = gradients(loss, a, b, mask=np.arange(N) < rows)
        assert value == 0.0 and not any(g.any() for g in grads)
    constant = np.ones((N, D), "float32")  # all pairs the same: no variance
    for pair in ((constant, constant), (a, constant), (a, a)):
        value, grads = gradients(loss, *pair)
        assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)
    twins = np.stack([a[:, 0]] * D, axis=1)  # columns all alike: a singular covariance
    value, grads = gradients(loss, twins, twins)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


def test_jax_gives_the_same_numbers(tmp_path):
    a, b = pairs()
    held = {"a": a, "b": b, "mask": np.arange(N) != 4}
    np.savez(tmp_path / "in.npz", **held)
    names = [str(tmp_path / name) for name in ("in.npz", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-m", "tests.objectives.jax_run", *names],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = jax_run.numbers(held)
    with np.load(tmp_path / "out.npz") as found:
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
