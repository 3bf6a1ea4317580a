"""Freezing by names, inside encoders too, and averaging of weights over epochs."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from tests.small import build, rows

PICTURE = ["picture_conv0", "picture_norm0", "picture_positions"]


def test_frozen_layers_keep_their_weights_and_the_rest_trains(rng, tmp_path):
    model = build()
    names = mk.training.freeze(model, ["picture_*", "numbers_dense0"])
    assert sorted(names) == ["numbers_dense0", *PICTURE]
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    before = {v.path: v.numpy() for v in model.weights}
    model.fit(rows(rng), epochs=1, verbose=0)
    moved = {v.path for v in model.weights if (v.numpy() != before[v.path]).any()}
    assert moved == {v.path for v in model.trainable_variables}
    assert not any(path.startswith(("picture", "numbers_dense0")) for path in moved)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]


def test_a_compiled_model_must_be_compiled_again(rng):
    model = build()
    model.compile("sgd", jit=False)
    with pytest.warns(UserWarning, match=r"call compile\(...\) again"):
        mk.training.freeze(model, ["fusion"])
    with pytest.raises(ValueError, match="compile"):
        model.fit(rows(rng), epochs=1, verbose=0)
    numbers = ["numbers_dense0", "numbers_dense1", "numbers_norm0", "numbers_norm1"]
    assert sorted(mk.training.unfreeze(model)) == ["fusion", "label", *numbers, *PICTURE]
    model.compile("sgd", jit=False)
    model.fit(rows(rng), epochs=1, verbose=0)
    assert len(model.trainable_variables) == len(model.weights)


def test_patterns_that_match_nothing_are_refused():
    with pytest.raises(ValueError, match="'pictures.' must match .*Did you mean 'picture_.'"):
        mk.training.freeze(build(), ["pictures*"])
    with pytest.raises(TypeError, match=r"must be a list.*Write \['fusion'\]"):
        mk.training.freeze(build(), "fusion")


def test_average_is_the_mean_of_the_weights_at_the_epochs_ends(rng):
    model = build()
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    ends = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append([v.numpy() for v in model.trainable_variables])
    )
    average = mk.training.AverageWeights(start_epoch=1)
    model.fit(rows(rng), epochs=4, verbose=0, callbacks=[average, watch])
    assert average.count == 3
    for i, v in enumerate(model.trainable_variables):
        expected = np.mean([end[i] for end in ends[1:]], axis=0)
        np.testing.assert_allclose(v.numpy(), expected, atol=1e-6, err_msg=v.path)


def test_average_refuses_what_it_cannot_average(rng):
    model = build()
    model.compile(mk.training.optimizer("sgd", ema=0.9), jit=False)
    with pytest.raises(ValueError, match="Average the weights in one way"):
        model.fit(rows(rng), verbose=0, callbacks=[mk.training.AverageWeights()])
    model.compile("sgd", jit=False)
    with pytest.raises(ValueError, match="`start_epoch` must lie below.*Received: 3 of 2"):
        model.fit(rows(rng), epochs=2, verbose=0, callbacks=[mk.training.AverageWeights(3)])
