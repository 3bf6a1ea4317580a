"""One device equals two replicas in every way of training; `exactness.py` has the cases."""

import pytest

# Largest difference of a weight or a prediction after 20 steps, and of a logged figure. In float32
# only the order of sums differs (measured 7e-7; 2.4e-6 with SGD at a rate of 0.1). bfloat16 keeps 8
# bits and float16 11, so that a prediction near 1 differs in the third or fourth digit to begin
# with, and 20 steps carry it on (measured 6e-2 and 2e-3).
EXACT = (5e-6, 1e-6)
CASES = {
    "sample_weights, schedule": EXACT,
    "class_weights, clip_norm": EXACT,
    "accumulate, ema, xla": EXACT,
    "uneven batches": EXACT,
    "a last batch of one row, xla": EXACT,
    "guard, clip_norm, xla": EXACT,
    "synchronized batch statistics": EXACT,
    "bfloat16": (2e-1, 1e-1),
    "float16": (1e-2, 1e-2),
}


@pytest.fixture(scope="module")
def cases(script_result):
    return script_result("exactness")


@pytest.mark.parametrize("name", CASES)
def test_two_replicas_train_as_one_device(cases, name):
    case, (weights, logs) = cases[name], CASES[name]
    assert case["steps"] == [20, 20]
    assert case["weights"] <= weights, case["worst"]
    assert case["logs"] <= logs, case["worst"]
    assert case["moved"] > 1e-2  # the steps were of a size that could have differed


def test_replicas_drop_units_of_their_own_and_the_same_again(cases):
    dropout = cases["dropout"]
    assert dropout["differ"] and dropout["repeat"]
    assert all(0.3 < half < 0.7 for half in dropout["halves"])
