"""Every registered fusion, a hybrid and the heads on JAX give TensorFlow's numbers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from mmkeras.fusion import FUSIONS
from tests import contract
from tests.fusion import jax_run

ROOT = Path(__file__).parents[2]
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def test_every_fusion_and_head_runs_on_jax(tmp_path):
    model = jax_run.build()
    contract.randomize(model.trainable_variables, scale=0.1)
    np.savez(tmp_path / "weights.npz", **{str(i): w for i, w in enumerate(model.get_weights())})
    expected = contract.as_numpy(model(contract.tensors(jax_run.arguments())))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fusion.jax_run", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": QUICK},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(expected) == {*FUSIONS, "hybrid", *jax_run.HEADS}
    for name, outputs in expected.items():
        with np.load(tmp_path / f"{name}.npz") as found:
            contract.assert_close(dict(found), outputs, 1e-4)
