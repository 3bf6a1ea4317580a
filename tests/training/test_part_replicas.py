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


@pytest.mark.parametrize("name", ["rates", "loss_scale_ema", "average"])
def test_one_device_equals_two_replicas(cases, name):
    # The order of float32 sums is all that differs; measured 6e-8.
    assert cases[name] <= 1e-6


def test_profile_counts_the_rows_of_all_replicas(cases):
    assert cases["rows"] == 2 * 2 * 40  # one device and two, two epochs each
