"""The peers of the contrastive benchmark compute the same loss and gradients."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import contrastive

TORCH = importlib.util.find_spec("torch") is not None


def test_everyone_computes_the_same():
    a, b = contrastive.vectors(96)
    expected = contrastive.whole_tensorflow(a, b)()
    steps = [contrastive.tiled(a, b, tile=40)]
    if TORCH:
        steps.append(contrastive.whole_torch(a, b))
    else:
        with pytest.raises(ImportError, match=r"mmkeras\[bench\]"):
            contrastive.process("torch", 64, "mib")
    for found in (step() for step in steps):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("who", ["mmkeras", *(["torch"] if TORCH else [])])
def test_a_measurement(who):
    command = [sys.executable, "-m", "benchmarks.contrastive", "--child", who, "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["seconds"] > 0 and figures["mib"] >= 0
