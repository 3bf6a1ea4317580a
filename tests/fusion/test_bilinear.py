"""What the bilinear and the conditional fusions promise beyond the contract."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.fusion import FUSIONS
from mmkeras.fusion.tensor_fusion import LARGEST, widest
from mmkeras.fusion.vectors import power_norm, unit_scale
from tests import contract
from tests.fusion.inputs import HIDDEN, LENGTHS, NAMES, random_inputs, unit

PRODUCTS = (
    "block",
    "compact_bilinear",
    "low_rank",
    "mfb",
    "mfh",
    "mlb",
    "multiplicative",
    "mutan",
    "tensor_fusion",
)
FORMS = [("multiplicative", {"form": "scalar"}), ("multiplicative", {"form": "vector"})]
WEIGHTS = [
    ("block", {}, lambda m, d: m * ((d + 1) * 64 + 20 * 17 * 16) + 65 * d),
    ("compact_bilinear", {}, lambda m, d: (8 * d + 1) * d),
    ("hypernetwork", {}, lambda m, d: (d + 1) * 8 + 9 * (d**2 + d) + (d + 1) * d),
    ("low_rank", {}, lambda m, d: m * 4 * d * (d + 1) + 4 + d),
    ("mfb", {"pool_dim": 7}, lambda m, d: m * (d + 1) * 35 + 8 * d),
    ("mfh", {"pool_dim": 7}, lambda m, d: 2 * m * (d + 1) * 35 + 15 * d),
    ("mlb", {"rank": 7}, lambda m, d: m * (d + 1) * 7 + 8 * d),
    ("multiplicative", {}, lambda m, d: (m - 1) * (d + 1) * (d**2 + d) + (d + 1) * d),
    ("multiplicative", {"form": "vector"}, lambda m, d: (m - 1) * (d + 1) * 2 * d + (d + 1) * d),
    ("multiplicative", {"form": "scalar"}, lambda m, d: (m - 1) * (d + 1) * 2 + (d + 1) * d),
    ("mutan", {"tucker_dim": 7}, lambda m, d: m * ((d + 1) * 7 + 8 * 35) + 8 * d),
    ("non_local_gate", {}, lambda m, d: max(m - 1, 1) * (3 * (d + 1) * 3 + 4 * d)),
    ("tensor_fusion", {"tensor_dim": 2}, lambda m, d: m * (d + 1) * 2 + (3**m + 2 + d) * d),
]


@pytest.mark.parametrize(("name", "arguments"), FORMS)
def test_contract_of_the_other_forms(name, arguments, tmp_path):
    for check in (contract.config, contract.dtypes, contract.gradient, contract.saving):
        check(unit(FUSIONS[name], **arguments), tmp_path)


@pytest.mark.parametrize(("name", "arguments", "weights"), WEIGHTS)
def test_weights_are_as_many_as_the_docstring_says(name, arguments, weights):
    """Beside the projections and absent tokens of `Fusion`, for M = 1, 2, 3."""
    dim = 6
    for count in (1, 2, 3):
        names = NAMES[:count]
        layer = FUSIONS[name](names, hidden_dim=dim, **arguments)
        layer.build({m: {"tokens": (None, 5, 4), "mask": (None, 5)} for m in names})
        found = sum(math.prod(v.shape) for v in layer.trainable_variables)
        assert found - count * (4 * dim + 2 * dim) == weights(count, dim)


# Low-rank fusion trains -------------------------------------------------------------------------


def test_every_factor_of_low_rank_moves_in_one_step_of_a_fresh_layer():
    layer = FUSIONS["low_rank"](NAMES, hidden_dim=HIDDEN)
    inputs = contract.tensors(random_inputs(np.random.default_rng(0)))
    layer(inputs)
    own = [v for v in layer.trainable_variables if "projection" not in v.path]
    assert sum("factor" in v.path for v in own) == 2 * len(NAMES)
    assert {"ranks", "bias"} < {v.path.split("/")[-1] for v in own}
    before = [v.numpy() for v in layer.trainable_variables]
    _, found = contract.gradients(lambda: layer(inputs), layer.trainable_variables)
    contract.assert_all_train(found)
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.apply([found[v.path] for v in layer.trainable_variables], layer.trainable_variables)
    for variable, old in zip(layer.trainable_variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), old), f"{variable.path} did not move"


# What an absent modality does to a product ------------------------------------------------------


@pytest.mark.parametrize("name", PRODUCTS)
def test_absent_modalities_do_not_kill_the_product(name):
    """In a fresh layer one modality still moves pooled, at least a tenth as much as all three."""
    layer = FUSIONS[name](NAMES, hidden_dim=16)
    inputs = random_inputs(np.random.default_rng(0), batch=32, special=False)
    for part in inputs.values():
        part["mask"][:] = True
    whole = contract.as_numpy(layer(inputs))["pooled"].std(axis=0).mean()
    for m in NAMES[1:]:
        inputs[m]["mask"][:] = False
    left = contract.as_numpy(layer(inputs))["pooled"].std(axis=0).mean()
    assert left > 0.1 * whole


# Numbers ----------------------------------------------------------------------------------------


def test_power_norm_is_a_signed_root_of_length_one():
    x = np.random.default_rng(0).standard_normal((4, 50)).astype("float32")
    y = contract.as_numpy(power_norm(x))
    root = np.sign(x) * np.sqrt(np.abs(x))
    far = np.abs(x) > 0.05
    ratio = y / (root / np.linalg.norm(root, axis=1, keepdims=True))
    assert np.abs(ratio[far] - 1.0).max() < 0.01 < np.abs(ratio[~far] - 1.0).max()
    assert power_norm(x.astype("float16")).dtype == "float32"


def test_the_scale_of_a_factor_is_taken_out():
    x = np.random.default_rng(0).standard_normal((2, 4, 50)).astype("float32")
    found = power_norm(unit_scale(100.0 * x[0]) * unit_scale(0.01 * x[1]))
    gap = np.abs(contract.as_numpy(found - power_norm(100.0 * x[0] * x[1]))).max()
    assert 1e-5 < gap < 0.01


def test_power_norm_has_a_finite_gradient_at_zero():
    x = tf.Variable(np.zeros((2, 3), "float32"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(power_norm(x))
    np.testing.assert_allclose(tape.gradient(loss, x), np.full((2, 3), 10.0 / 1e-3**0.5), rtol=1e-5)


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_are_finite_where_everything_is_zero(name):
    layer = FUSIONS[name](NAMES, hidden_dim=HIDDEN, dtype="mixed_float16")
    inputs = contract.tensors(random_inputs(np.random.default_rng(0)))
    layer(inputs)
    for variable in layer.trainable_variables:
        if "out/" not in variable.path:
            variable.assign(np.zeros(variable.shape))
    _, found = contract.gradients(lambda: layer(inputs), layer.trainable_variables)
    assert all(np.isfinite(g).all() for g in found.values())


@pytest.mark.parametrize("name", PRODUCTS)
def test_large_values_stay_finite_in_float16(name):
    """Three vectors of some 100: their product leaves float16 unless it is computed in float32."""
    layer = FUSIONS[name](NAMES, hidden_dim=HIDDEN, dtype="mixed_float16")
    inputs = random_inputs(np.random.default_rng(0))
    for part in inputs.values():
        part["tokens"] *= 20.0
    out = contract.as_numpy(layer(inputs))
    assert np.isfinite(out["pooled"]).all()


# Compact bilinear -------------------------------------------------------------------------------


def test_sketches_come_from_the_seed_and_do_not_train():
    def sketches(seed):
        layer = FUSIONS["compact_bilinear"](NAMES, hidden_dim=HIDDEN, seed=seed, name="unit")
        layer(random_inputs(np.random.default_rng(0)))
        fixed = layer.non_trainable_variables
        assert [v.dtype for v in fixed] == ["int32", "float32"] * len(NAMES)
        return {v.path: v.numpy() for v in fixed}

    first, again, other = sketches(0), sketches(0), sketches(1)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not any(np.array_equal(first[k], other[k]) for k in first)
    assert all(set(np.unique(v)) <= {-1.0, 1.0} for k, v in first.items() if k.endswith("sign"))


# Conditional ------------------------------------------------------------------------------------


def test_a_fresh_multiplicative_chain_starts_near_the_identity():
    for form in ("matrix", "scalar", "vector"):
        layer = FUSIONS["multiplicative"](("a", "b"), hidden_dim=HIDDEN, form=form)
        layer.build({m: {"tokens": (None, 1, HIDDEN), "mask": (None, 1)} for m in "ab"})
        x = np.random.default_rng(0).standard_normal((4, HIDDEN)).astype("float32")
        found = layer.join([x, np.zeros_like(x)], training=False)
        contract.assert_close(found, layer.out(x), 1e-6)


def test_source_may_be_any_modality():
    inputs = random_inputs(np.random.default_rng(8))
    for m in NAMES:
        layer = FUSIONS["hypernetwork"](NAMES, hidden_dim=HIDDEN, source=m)
        others = [LENGTHS[n] + 1 for n in NAMES if n != m]
        assert layer(inputs)["tokens"].shape == (5, sum(others), HIDDEN)


def test_the_gate_of_one_key_is_a_sigmoid():
    """One real key: its weight is sigmoid(logit), so query and key maps train."""
    contract.gradient(unit(FUSIONS["non_local_gate"], ("image", "numbers")), None)


# Errors -----------------------------------------------------------------------------------------


def test_an_outer_product_too_large_is_refused():
    names = [f"m{i}" for i in range(5)]
    assert FUSIONS["tensor_fusion"](names).tensor_dim == 4
    text = (
        rf"\(tensor_dim \+ 1\)\^5 entries, at most {LARGEST}. Received: tensor_dim=10, that is "
        "161051. Use `tensor_dim` of at most 9, or the fusion 'low_rank'"
    )
    with pytest.raises(ValueError, match=text):
        FUSIONS["tensor_fusion"](names, tensor_dim=10)
    with pytest.raises(ValueError, match="that is 1048576. Use the fusion 'low_rank'"):
        FUSIONS["tensor_fusion"]([f"m{i}" for i in range(20)])
    assert [widest(100, count) for count in (1, 2, 3, 6, 7)] == [99, 9, 3, 1, 0]


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("block", {"num_blocks": 0}, "`num_blocks` must be a whole number of at least 1"),
        ("compact_bilinear", {"sketch_dim": 7}, "must be even.*sketch_dim=7. Use 8"),
        ("compact_bilinear", {"sketch_dim": 0}, "`sketch_dim` must be a whole number of at least"),
        ("compact_bilinear", {"seed": -1}, "`seed` must be a whole number of at least 0"),
        ("hypernetwork", {"source": "sound"}, "`source` must be one of .*Received.*'sound'"),
        ("low_rank", {"rank": 0}, "`rank` must be a whole number of at least 1"),
        ("mfb", {"factors": 0}, "`factors` must be a whole number of at least 1"),
        ("mfh", {"num_blocks": 1.5}, "`num_blocks` must be a whole number of at least 1"),
        ("mlb", {"rank": 0}, "`rank` must be a whole number of at least 1"),
        ("multiplicative", {"form": "tensor"}, "`form` must be one of .*Received.*'tensor'"),
        ("mutan", {"tucker_dim": 0}, "`tucker_dim` must be a whole number of at least 1"),
        ("non_local_gate", {"query": "sound"}, "`query` must be one of .*Received.*'sound'"),
        ("tensor_fusion", {"tensor_dim": 0}, "`tensor_dim` must be a whole number of at least 1"),
    ],
)
def test_wrong_arguments_are_refused(name, arguments, text):
    with pytest.raises(ValueError, match=text):
        FUSIONS[name](NAMES, **arguments)
