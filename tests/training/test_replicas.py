"""One device equals two replicas, with and without XLA; and XLA really compiles."""

import pytest


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("replicas")


@pytest.mark.parametrize(("one", "two"), [("single", "mirrored"), ("single_xla", "mirrored_xla")])
def test_weights_after_20_adamw_steps_are_equal(cases, one, two):
    assert cases[one]["steps"] == cases[two]["steps"] == 20
    # The order of float32 sums is all that differs; measured about 2e-7.
    assert cases[two]["difference"][one] <= 1e-6
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert cases[two][name] == pytest.approx(cases[one][name], rel=1e-6), name


def test_xla_changes_nothing_but_rounding(cases):
    # XLA fuses GELU and softmax with other roundings; where a gradient is near zero, Adam divides
    # the rounding by its own size. Measured 1.4e-6.
    for name in ("single_xla", "mirrored_xla"):
        assert cases[name]["difference"]["single"] <= 1e-5


def test_xla_compiles_one_module_per_replica(cases):
    modules = {name: case["modules"] for name, case in cases.items()}
    assert modules["single"] == modules["mirrored"] == modules["half_mirrored"] == 0
    assert modules["single_xla"] == 1
    assert modules["mirrored_xla"] == modules["sgd_mirrored_xla"] == 2


def test_clipping_happens_after_the_reduction(cases):
    assert cases["sgd_mirrored_xla"]["difference"]["sgd_single"] <= 1e-6


def test_float16_with_loss_scaling(cases):
    assert cases["half_mirrored"]["finite"] and cases["half_single"]["finite"]
    assert cases["half_mirrored"]["steps"] == cases["half_single"]["steps"] == 20
    # float16 gradients have three digits; Adam's steps are 1e-3 long. Measured 1e-4.
    assert cases["half_mirrored"]["difference"]["half_single"] <= 1e-3
