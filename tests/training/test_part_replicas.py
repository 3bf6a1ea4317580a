"""What is set per part is equal on one device and on two replicas, with XLA and without."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("part_replicas.py")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Everything in one process of its own, because logical devices are set once."""
    out = tmp_path_factory.mktemp("part_replicas") / "out.json"
    done = subprocess.run([sys.executable, str(SCRIPT), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", ["rates", "ema", "loss_scale", "average"])
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs.
    assert cases[name]["one_two"] <= 1e-6


def test_a_bfloat16_part_agrees_to_its_rounding(cases):
    # Gradients of the part have three digits, and Adam's steps are 1e-3 long.
    assert cases["bfloat16_part"]["one_two"] <= 1e-3


def test_remat_trains_to_the_same_weights_with_xla_on_two_replicas(cases):
    assert cases["remat"]["plain_remat"] <= 1e-5
