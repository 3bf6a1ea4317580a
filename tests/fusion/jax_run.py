"""Runs fusions and heads on JAX: `KERAS_BACKEND=jax python -m tests.fusion.jax_run FOLDER`.

FOLDER holds `weights.npz`, what every part's weights are; gets `<part>.npz`, its outputs.
"""

import os
import sys
from pathlib import Path

import keras
import numpy as np

from mmkeras import fusion, heads
from tests.fusion.inputs import HIDDEN, random_inputs

NAMES = ("image", "text")

HEADS = {
    "classifier": lambda **kw: heads.Classifier(3, **kw),
    "multi_label": lambda **kw: heads.MultiLabel(4, **kw),
    "regressor": lambda **kw: heads.Regressor(2, **kw),
    "dirichlet": lambda **kw: heads.Dirichlet(3, **kw),
    "decision_mean": lambda **kw: heads.Decision(heads.Classifier(3), "mean", **kw),
    "decision_vote": lambda **kw: heads.Decision(heads.MultiLabel(4), "vote", **kw),
    "decision_stack": lambda **kw: heads.Decision(heads.Regressor(2), "stack", **kw),
    "decision_dempster": lambda **kw: heads.Decision(heads.Dirichlet(3), "dempster", **kw),
}


def batch():
    """Two modalities of three steps, masked here and there."""
    given = random_inputs(np.random.default_rng(0), NAMES)
    return {m: {key: value[:, :3] for key, value in part.items()} for m, part in given.items()}


def build():
    """Returns one model of every fusion, a hybrid of two and all heads: output -> its dict."""
    given = {
        m: {
            "tokens": keras.Input(part["tokens"].shape[1:], name=f"{m}_tokens"),
            "mask": keras.Input(part["mask"].shape[1:], dtype="bool", name=f"{m}_mask"),
        }
        for m, part in batch().items()
    }
    made = {
        name: fusion.get(name, NAMES, hidden_dim=HIDDEN, name=name)(given)
        for name in fusion.FUSIONS
    }
    late = {"tokens": made["sum"], "pooled": made["film"], "decisions": made["voting"]}
    made["hybrid"] = fusion.HybridFusion(tuple(late), hidden_dim=HIDDEN, name="hybrid")(late)
    made |= {name: {"out": make(name=name)(made["hybrid"])} for name, make in HEADS.items()}
    inputs = {tensor.name: tensor for part in given.values() for tensor in part.values()}
    return keras.Model(inputs, made)


def arguments():
    """The batch as the model takes it."""
    return {f"{m}_{key}": value for m, part in batch().items() for key, value in part.items()}


def main(folder):
    """Builds, loads, runs and saves."""
    model = build()
    with np.load(folder / "weights.npz") as held:
        model.set_weights([held[str(i)] for i in range(len(held.files))])
    given = {name: keras.ops.convert_to_tensor(value) for name, value in arguments().items()}
    for name, out in model(given).items():  # not compiled as a whole: that takes longer
        np.savez(folder / f"{name}.npz", **{k: np.asarray(v) for k, v in out.items()})
    assert keras.backend.backend() == os.environ["KERAS_BACKEND"] == "jax"
    assert not any(name.startswith("mmkeras.data") for name in sys.modules)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
