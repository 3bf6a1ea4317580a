"""Schedules against their formulas."""

import keras
import numpy as np
import pytest

import mmkeras as mk


def formula(name, s, rate, steps, warmup, final):
    if s < warmup:
        return rate * s / warmup
    if name == "constant":
        return rate
    p = min((s - warmup) / (steps - warmup), 1.0)
    if name == "linear":
        return rate * (1 - (1 - final) * p)
    return rate * (final + (1 - final) * (1 + np.cos(np.pi * p)) / 2)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_schedule_is_its_formula_before_and_after_saving(name, warmup, final):
    made = mk.training.schedule(name, 0.3, steps=11, warmup_steps=warmup, final=final)
    if name == "constant" and not warmup:
        assert made == 0.3
        return
    saved = keras.saving.serialize_keras_object(made)
    for schedule in (made, keras.saving.deserialize_keras_object(saved)):
        got = [float(schedule(s)) for s in range(15)]
        expected = [formula(name, s, 0.3, 11, warmup, final) for s in range(15)]
        np.testing.assert_allclose(got, expected, atol=1e-7)


def test_an_optimizer_follows_it():
    made = mk.training.schedule("linear", 1.0, steps=4, warmup_steps=2)
    variable = keras.Variable(np.zeros(1, "float32"), name="w")
    optimizer = mk.training.optimizer("sgd", made)
    optimizer.build([variable])
    for _ in range(4):
        optimizer.apply([np.ones(1, "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), [-(0.0 + 0.5 + 1.0 + 0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "cosin"}, "`name` must be one of"),
        ({"name": "cosine"}, "needs `steps`.*Received: steps=None"),
        ({"name": "linear", "steps": 3, "warmup_steps": 3}, "above `warmup_steps`"),
        ({"name": "linear", "steps": 3, "final": 2.0}, "`final` must lie between"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        mk.training.schedule(learning_rate=0.1, **kwargs)
