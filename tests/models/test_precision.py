"""Precision per part: dtypes of compute and weights, training, errors."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from tests.small import SPECS, build, rows


def computes(model):
    """Name -> compute dtype of some layer of every part."""
    named = {
        layer.name: layer for part in model.layers for layer in getattr(part, "layers", [part])
    }
    parts = ("picture_conv0", "numbers_dense0", "fusion", "label")
    assert all(
        child.compute_dtype == named["fusion"].compute_dtype
        for child in (named["fusion"].mix, named["fusion"].projections["picture"])
    )
    return {part: named[part].compute_dtype for part in parts}


MIXED = {"picture": "mixed_bfloat16", "fusion": "float32"}


def test_every_part_computes_in_its_own_precision(tmp_path):
    model = build(precision=MIXED)
    expected = {
        "picture_conv0": "bfloat16",
        "numbers_dense0": "float32",
        "fusion": "float32",
        "label": "float32",
    }
    assert computes(model) == expected
    assert keras.config.dtype_policy().name == "float32"
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.save(tmp_path / "m.keras")
    assert computes(keras.models.load_model(tmp_path / "m.keras")) == expected


@pytest.mark.parametrize(
    ("policy", "precision"),
    [
        ("float32", MIXED),
        ("mixed_bfloat16", None),
        ("mixed_float16", {"numbers": "float32"}),
    ],
)
def test_five_steps_are_finite(rng, policy, precision):
    mk.training.precision(policy)
    model = build(precision=precision)
    model.compile(mk.training.optimizer("adamw", 0.01), jit=False)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    before = [v.numpy() for v in model.trainable_variables]
    log = model.fit(rows(rng), epochs=1, verbose=0).history
    assert np.isfinite(log["loss"]).all()
    assert model.optimizer.iterations.numpy() == 5
    for old, v in zip(before, model.trainable_variables, strict=True):
        assert v.dtype == "float32" and np.isfinite(v.numpy()).all()
        assert (v.numpy() != old).any(), v.path


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"precision": {"pictures": "float32"}}, "Unknown part 'pictures'.*Did you mean 'picture'"),
        ({"precision": {"label": "mixed_bfloat16"}}, "Heads are float32"),
        ({"precision": {"fusion": "bfloat"}}, "must be one of"),
        ({"precision": {"fusion": "mixed_float16"}}, "needs loss scaling.*under 'float32'"),
    ],
)
def test_bad_precision_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_a_finished_part_has_its_precision_already():
    fusion = mk.fusion.ConcatenationFusion(list(SPECS), hidden_dim=8)
    with pytest.raises(ValueError, match="must be set where it is made"):
        mk.assemble(
            SPECS,
            fusion=fusion,
            heads={"label": mk.heads.Classifier(2)},
            precision={"fusion": "mixed_bfloat16"},
        )
