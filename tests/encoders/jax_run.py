"""Runs every encoder on JAX: `KERAS_BACKEND=jax python -m tests.encoders.jax_run FOLDER`.

FOLDER holds `<kind>-<name>.npz`, the weights in order; gets `<kind>-<name>.out.npz`, the outputs.
"""

import os
import sys
from pathlib import Path

import keras
import numpy as np

from mmkeras import encoders
from tests.encoders.inputs import SMALL, random_batch, spec_of


def cases():
    """Yields (file name, kind, encoder) of every registered encoder, and of raw units."""
    for kind, table in encoders.ENCODERS.items():
        for name in (*table, "raw"):
            yield f"{kind}-{name}", kind, name


def build(kind, name):
    """Returns a small encoder of the kind, and its batch."""
    spec = spec_of(kind, name)
    own = {"name": name, **SMALL.get((kind, name), {})}
    model = encoders.get(encoders.raw if name == "raw" else own, "left", spec)
    return model, random_batch("left", spec)


def main(folder):
    """Builds, loads, runs and saves."""
    for file, kind, name in cases():
        model, batch = build(kind, name)
        with np.load(folder / f"{file}.npz") as held:
            model.set_weights([held[str(i)] for i in range(len(held.files))])
        out = model.predict_on_batch(batch)
        np.savez(folder / f"{file}.out.npz", **{k: np.asarray(v) for k, v in out.items()})
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"] == "jax"
    assert not any(name.startswith("mmkeras.data") for name in sys.modules)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
