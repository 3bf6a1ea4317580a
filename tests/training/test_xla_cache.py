"""XLA's programs on disk: written by one process, found by the next, refused when too late."""

import subprocess
import sys

import pytest
import tensorflow as tf

import mmkeras as mk

SCRIPT = """
import sys
import numpy as np
import mmkeras as mk

mk.training.xla_cache(sys.argv[1])
mk.training.seed(0)
spec = {"a": mk.Vector(size=3, normalize=False)}
model = mk.assemble(
    spec, fusion="concatenation", heads={"b": mk.heads.Regressor()}, hidden_dim=4
)
model.compile("sgd", jit=True)
x = {"a": np.ones((4, 3), "float32"), "a_mask": np.ones(4, bool)}
print("loss", model.train_on_batch(x, {"b": np.ones((4, 1), "float32")})[0])
"""


def test_the_second_process_compiles_nothing_new(tmp_path):
    losses, files = [], []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "cache")], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        losses.append(done.stdout.split("loss ")[1])
        held = (tmp_path / "cache").iterdir()
        files.append({file.name: file.stat().st_mtime_ns for file in held})
    assert len(files[0]) == 1  # one program: the gradient of the step
    assert files[1] == files[0]
    assert losses[0] == losses[1]


def test_too_late_is_an_error(tmp_path):
    tf.constant(1.0) + 1.0
    with pytest.raises(RuntimeError, match="must be called before TensorFlow is used"):
        mk.training.xla_cache(tmp_path)
