"""Peak memory of a training step, measured in a process of its own.

TensorFlow's allocators keep what they once had, so that in one process only the hungriest model
so far would be seen.
"""

import gc
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np


def step_memory(model: keras.Model, batch: Any) -> float | None:
    """Returns the MiB that a training step on a batch needs beside the model: activations, mostly.

    By how much the peak resident size of a new process on the CPU grows in two steps on the
    batch, after one on two of its rows, in which everything is traced and allocated.

    Args:
        model: compiled; its layers are importable from modules.
        batch: `(x, y)` dicts of arrays, of at least two rows.

    Returns:
        None where it cannot be measured: without /proc (not on Linux), with a layer that the
        running script itself defines, or (with a warning) when the process fails.
    """
    modules = {type(layer).__module__ for layer in model._flatten_layers()}
    if "__main__" in modules or not Path("/proc/self/clear_refs").exists():
        return None
    x, y = ({name: np.asarray(value) for name, value in part.items()} for part in batch)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        for name, part in (("x", x), ("y", y)):
            np.savez(Path(folder) / f"{name}.npz", **part)
        job = json.dumps({"folder": folder, "modules": sorted(modules), "path": sys.path})
        command = [sys.executable, "-c", _CHILD, job]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:  # of a long comparison this is one figure
        warnings.warn(
            "Peak memory is not measured: the process that loads the model and takes a step ended "
            f"with code {done.returncode}: {done.stderr[-2000:]}",
            stacklevel=2,
        )
        return None
    return float(done.stdout.splitlines()[-1])


_CHILD = """
import json, sys
job = json.loads(sys.argv[1])
sys.path[:] = job["path"]
from mmkeras.training import memory
memory.child(job)
"""


def child(job: Mapping[str, Any]) -> None:
    """The measured process; prints the MiB."""
    import importlib

    import tensorflow as tf

    for module in job["modules"]:
        importlib.import_module(module)
    folder = Path(job["folder"])
    model = keras.models.load_model(folder / "model.keras")
    x, y = (dict(np.load(folder / f"{name}.npz")) for name in ("x", "y"))
    count = len(next(iter(x.values())))
    rows = tf.data.Dataset.from_tensor_slices((x, y))
    model._maybe_symbolic_build(data_batch=rows.batch(2).element_spec)
    step = model.make_train_function()
    step(iter(rows.batch(2)))
    gc.collect()
    batches = iter(rows.batch(count).repeat(2))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
    before = _resident("VmRSS")
    for _ in range(2):
        step(batches)
    print(_resident("VmHWM") - before)


def _resident(name: str) -> float:
    """Returns a size of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))
