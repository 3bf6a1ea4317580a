"""The guard: a step that is not finite changes nothing, is named, and its batch is kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk

ROWS, SIZE, BAD = 12, 4, 6  # row 6 is row 2 of the second batch


def columns(rng):
    x = {"a": rng.normal(size=(ROWS, 3)).astype("float32")}
    y = {
        "label": rng.integers(0, 2, ROWS).astype("int32"),
        "size": rng.normal(size=ROWS).astype("float32"),
    }
    return x, y


def build(**kwargs):
    inputs = {"a": keras.Input((3,), name="a")}
    hidden = keras.layers.Dense(4, name="hidden")(inputs["a"])
    heads = {
        "label": mk.heads.Classifier(("no", "yes"), name="label"),
        "size": mk.heads.Regressor(name="size"),
    }
    model = mk.Model(inputs, {name: head({"pooled": hidden}) for name, head in heads.items()})
    model.compile(keras.optimizers.SGD(0.1), jit=False, **kwargs)
    return model


def fit(model, x, y, guard, epochs=1):
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(SIZE)
    return model.fit(data, epochs=epochs, verbose=0, callbacks=[guard])


def test_stop_names_step_head_and_rows_and_keeps_the_batch(rng, tmp_path):
    x, y = columns(rng)
    y["size"][BAD] = np.nan
    model, one = build(), build()
    one.set_weights(model.get_weights())
    guard = mk.training.NonFiniteGuard(tmp_path / "kept")
    with pytest.raises(
        FloatingPointError, match="Step 1 is not finite.*y/size in rows 2.*step-00000001.npz.*clip"
    ):
        fit(model, x, y, guard)
    with np.load(tmp_path / "kept" / "step-00000001.npz") as kept:
        np.testing.assert_array_equal(kept["x/a"], x["a"][4:8])
        np.testing.assert_array_equal(kept["y/label"], y["label"][4:8])
        assert kept["rows/y/size"].tolist() == [2] and kept["prediction/size"].shape == (4, 1)
    # The weights are those after step 0.
    first = tf.nest.map_structure(lambda a: a[:4], (x, y))
    fit(one, *first, mk.training.NonFiniteGuard(tmp_path / "none"))
    for a, b in zip(model.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not (tmp_path / "none").exists()


def test_skip_leaves_the_step_out_of_weights_and_metrics(rng, tmp_path):
    x, y = columns(rng)
    x["a"][BAD] = np.inf
    guard = mk.training.NonFiniteGuard(tmp_path, "skip")
    model, other = build(), build()
    other.set_weights(model.get_weights())
    with pytest.warns(UserWarning, match="Step 1 is not finite.*x/a in rows 2; prediction/label"):
        log = fit(model, x, y, guard).history
    assert guard.skipped == 1 and int(model.optimizer.iterations.numpy()) == 2
    good = np.r_[0:4, 8:12]
    parts = tf.nest.map_structure(lambda a: a[good], (x, y))
    expected = fit(other, *parts, mk.training.NonFiniteGuard(tmp_path)).history
    assert {name: pytest.approx(values, rel=1e-6) for name, values in log.items()} == expected
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_gradient_that_overflows_is_named_by_its_weights(rng, tmp_path):
    x, y = columns(rng)
    x["a"][BAD] = 1e30  # finite, and so is the loss; its gradient's norm is not
    y["size"] *= 0

    with pytest.raises(FloatingPointError, match="gradients of .*hidden/kernel"):
        fit(
            build(
                loss={
                    "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                    "size": "mse",
                }
            ),
            x,
            y,
            mk.training.NonFiniteGuard(tmp_path),
        )


def test_the_guard_changes_nothing_but_rounding_in_a_sound_run(rng, tmp_path):
    x, y = columns(rng)
    plain, guarded = build(clip_norm=0.5), build(clip_norm=0.5)
    guarded.set_weights(plain.get_weights())
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(SIZE)
    log = plain.fit(data, epochs=3, verbose=0).history
    same = fit(guarded, x, y, mk.training.NonFiniteGuard(tmp_path), epochs=3).history
    assert {name: pytest.approx(values, rel=1e-6) for name, values in log.items()} == same
    for a, b in zip(plain.get_weights(), guarded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_infinite_gradients_under_loss_scaling_are_the_optimizers_matter(rng, tmp_path):
    x, y = columns(rng)
    model = build()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1e38)
    model.compile(scaled, jit=False)
    fit(model, x, y, mk.training.NonFiniteGuard(tmp_path), epochs=2)
    assert float(scaled.dynamic_scale.numpy()) < 1e38
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_the_action_is_checked(tmp_path):
    with pytest.raises(ValueError, match="`action` must be.*'halt'"):
        mk.training.NonFiniteGuard(tmp_path, "halt")
