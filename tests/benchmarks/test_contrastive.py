"""The peers of the contrastive benchmark compute the same loss and gradients."""

import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import contrastive


def test_everyone_computes_the_same():
    a, b = contrastive.vectors(96)
    expected = contrastive.whole_tensorflow(a, b)()
    for found in (contrastive.tiled(a, b, tile=40)(), contrastive.whole_torch(a, b)()):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("who", ["mmkeras", "torch"])
def test_a_measurement(who):
    command = [sys.executable, "-m", "benchmarks.contrastive", "--child", who, "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["seconds"] > 0 and figures["mib"] >= 0
