"""What layers add to the loss is equal on one device and on two replicas."""

import pytest


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("layer_losses")


@pytest.mark.parametrize("name", ["trusted", "trusted, xla", "shared_private"])
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs.
    assert cases[name] <= 2e-6
