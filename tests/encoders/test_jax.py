"""Every registered encoder on JAX gives TensorFlow's numbers for the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests import contract
from tests.encoders import jax_run

ROOT = Path(__file__).parents[2]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def test_every_encoder_runs_on_jax(tmp_path):
    expected = {}
    for file, kind, name in jax_run.cases():
        model, batch = jax_run.build(kind, name)
        contract.randomize(model.trainable_variables, scale=0.1)
        np.savez(tmp_path / f"{file}.npz", **{str(i): w for i, w in enumerate(model.get_weights())})
        expected[file] = contract.as_numpy(model(contract.tensors(batch)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.encoders.jax_run", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for file, outputs in expected.items():
        with np.load(tmp_path / f"{file}.out.npz") as found:
            np.testing.assert_array_equal(found["mask"], outputs["mask"], err_msg=file)
            gap = np.abs(found["tokens"] - outputs["tokens"]).max()
            assert gap <= 1e-4, (file, gap)
