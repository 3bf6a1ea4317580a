"""What is set per part is equal on one device and on two replicas, with XLA and without."""

import pytest


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("part_replicas")


@pytest.mark.parametrize("name", ["rates", "loss_scale_ema", "average"])
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs; measured 6e-8.
    assert cases[name] <= 1e-6


def test_profile_counts_the_rows_of_all_replicas(cases):
    assert cases["rows"] == 2 * 2 * 40  # one device and two, two epochs each
