"""Encoders of numbers, saved under TensorFlow, answer alike in a process on the JAX backend."""

import os
import subprocess
import sys

import numpy as np

from mmkeras import encoders
from tests import contract
from tests.encoders.inputs import SMALL, random_batch, spec_of

SCRIPT = """
import sys, jax, keras, numpy as np
import mmkeras
assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
for case in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{case}.keras")
    with np.load(f"{sys.argv[1]}/{case}-in.npz") as file:
        # Compiled once: op by op takes ten times as long.
        out = jax.jit(lambda batch: model(batch))({name: file[name] for name in file.files})
    np.savez(f"{sys.argv[1]}/{case}-out.npz", **{k: np.asarray(v) for k, v in out.items()})
"""


def test_the_same_numbers_in_jax(tmp_path):
    expected = {}
    for kind in ("table", "series", "vector"):
        for encoder in encoders.ENCODERS[kind]:
            modality, case = spec_of(kind, encoder), f"{kind}-{encoder}"
            arguments = {"name": encoder, **SMALL[kind, encoder]}
            model = encoders.get(arguments, "x", modality)
            contract.randomize(model.trainable_variables)
            batch = random_batch("x", modality)
            expected[case] = contract.as_numpy(model(contract.tensors(batch)))
            model.save(tmp_path / f"{case}.keras")
            np.savez(tmp_path / f"{case}-in.npz", **batch)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), *expected],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for case, numbers in expected.items():
        with np.load(tmp_path / f"{case}-out.npz") as file:
            contract.assert_close(dict(file), numbers, 2e-5)
