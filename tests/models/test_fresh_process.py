"""What only a new process shows: cheap import, and loading with nothing but `import mmkeras`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import mmkeras as mk
from tests import contract
from tests.models.test_assemble import batch_of, build

ROOT = Path(__file__).parents[2]


def run(code, *arguments, cwd=None):
    """Runs `code` in a new interpreter and returns the last line it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, env=environment, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_import_is_cheap():
    """Neither TensorFlow nor Keras nor NumPy is loaded by `import mmkeras` and `dir(mmkeras)`."""
    code = "import sys, json, mmkeras; dir(mmkeras); print(json.dumps(sorted(sys.modules)))"
    loaded = {name.split(".")[0] for name in json.loads(run(code))}
    assert not loaded & {"tensorflow", "keras", "numpy", "jax", "torch"}


def test_an_unknown_name_lists_the_known():
    with pytest.raises(AttributeError, match="no attribute 'asemble'. It has: .*assemble"):
        mk.asemble  # noqa: B018


@pytest.mark.parametrize(
    "first",
    [
        "import mmkeras as mk; mk.Image(size=8)",
        "import mmkeras as mk; mk.heads.Classifier(2)",
        "from mmkeras.layers import LogMel",
        "from mmkeras.fusion import GatedFusion",
    ],
)
def test_any_name_may_be_the_first(first, tmp_path):
    """In a process that has not imported Keras; afterwards everything is registered."""
    code = f"""{first}
import keras
for name in ("GatedFusion", "Classifier", "LogMel", "PoolMask", "Model"):
    assert keras.saving.get_registered_object("mmkeras>" + name) is not None, name
print("done")"""
    assert run(code, cwd=tmp_path) == "done"


@pytest.mark.parametrize("imports", ["mmkeras, keras", "keras, mmkeras"])
def test_load_in_a_new_process(imports, tmp_path):
    """All kinds of modalities; the same predictions, and training goes on."""
    model = build()
    model.compile("adam", jit=False)
    contract.randomize(model.trainable_variables, scale=0.1)
    batch = batch_of(model)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "batch.npz", **batch)
    code = f"""import {imports}
import sys, numpy
model = keras.models.load_model(sys.argv[1] + "/model.keras")
batch = dict(numpy.load(sys.argv[1] + "/batch.npz"))
numpy.savez(sys.argv[1] + "/out.npz", **model.predict(batch, verbose=0))
assert not model.jit
print(type(model).__module__, type(model).__name__)"""
    assert run(code, tmp_path, cwd=tmp_path) == "mmkeras.training.model Model"
    expected = model.predict(batch, verbose=0)
    found = dict(np.load(tmp_path / "out.npz"))
    contract.assert_close(found, expected, 1e-6)
    assert keras.config.floatx() == "float32"
