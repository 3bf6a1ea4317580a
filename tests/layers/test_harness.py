"""The harness itself: a layer with one known fault fails the one check that is about it."""

import keras
import pytest
import tensorflow as tf
from keras import ops

import mmkeras as mk
from tests import contract
from tests.layers.test_layers_contract import tokens_and_mask


@mk.register
class Sound(keras.layers.Layer):
    """A layer without fault: dict in, dict out, one dense child and one weight."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.child = keras.layers.Dense(self.units, name="child", dtype=self.dtype_policy)
        self.child.build(input_shape["tokens"])
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def call(self, inputs):
        x = self.child(inputs["tokens"])
        return {"out": x * ops.cast(self.scale, x.dtype), "mask": inputs["mask"]}

    def compute_output_spec(self, inputs):
        shape = (*inputs["tokens"].shape[:-1], self.units)
        return {
            "out": keras.KerasTensor(shape, self.compute_dtype),
            "mask": keras.KerasTensor(inputs["mask"].shape, "bool"),
        }

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@mk.register
class ForgetsConfig(Sound):
    """Loses its argument."""

    def get_config(self):
        return {**super().get_config(), "units": 3 if self.built else self.units}


@mk.register
class WrongShape(Sound):
    """Says another dtype than it returns."""

    def compute_output_spec(self, inputs):
        return {**super().compute_output_spec(inputs), "mask": inputs["tokens"]}


@mk.register
class WrongNames(Sound):
    """Builds its child outside its own name."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.other = keras.layers.Dense(self.units, name="other", dtype=self.dtype_policy)
        self.other.build((None, None, 6))

    def call(self, inputs):
        out = super().call(inputs)
        return {**out, "out": out["out"] + self.other(inputs["tokens"])}


@mk.register
class WrongPolicy(Sound):
    """Gives its child no policy, so that it takes the global one."""

    def build(self, input_shape):
        super().build(input_shape)
        self.child = keras.layers.Dense(self.units, name="child2")
        self.child.build(input_shape["tokens"])


@mk.register
class CallersOrder(Sound):
    """Reads the caller's dict in the caller's order."""

    def call(self, inputs):
        out = super().call(inputs)
        first = ops.mean(ops.cast(next(iter(inputs.values())), out["out"].dtype))
        return {**out, "out": out["out"] + first}


@mk.register
class DeadWeight(Sound):
    """Has a weight whose effect a softmax cancels."""

    def build(self, input_shape):
        super().build(input_shape)
        self.shift = self.add_weight(shape=(1,), name="shift")

    def call(self, inputs):
        out = super().call(inputs)
        x = ops.cast(out["out"], "float32") + self.shift
        return {**out, "out": ops.cast(ops.softmax(x), out["out"].dtype)}


@mk.register
class LosesWeights(Sound):
    """Saves nothing."""

    def save_own_variables(self, store):
        pass

    def load_own_variables(self, store):
        pass


@mk.register
class EagerOnly(Sound):
    """Gives other numbers inside a compiled function."""

    def call(self, inputs):
        out = super().call(inputs)
        return {**out, "out": out["out"] + (0.0 if tf.executing_eagerly() else 1e-3)}


def unit(cls):
    def inputs(rng):
        tokens, mask = tokens_and_mask(rng)
        return ({"tokens": tokens, "mask": mask},)

    return contract.Unit(lambda **kw: cls(4, **kw), inputs)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
def test_a_sound_layer_passes(check, tmp_path):
    check(unit(Sound), tmp_path)


@pytest.mark.parametrize(
    ("check", "cls"),
    [
        (contract.config, ForgetsConfig),
        (contract.output_spec, WrongShape),
        (contract.names, WrongNames),
        (contract.dtypes, WrongPolicy),
        (contract.dict_order, CallersOrder),
        (contract.gradient, DeadWeight),
        (contract.saving, LosesWeights),
        (contract.jit, EagerOnly),
    ],
    ids=lambda v: v.__name__,
)
def test_a_fault_fails_its_check(check, cls, tmp_path):
    with pytest.raises(AssertionError):
        check(unit(cls), tmp_path)


def test_made_once_gives_everything_back_as_it_was_made():
    calls = []

    @contract.made_once
    def made(units):
        calls.append(units)
        layer = keras.Sequential([keras.layers.Dense(units), keras.layers.Dropout(0.5)])
        layer.build((None, 3))
        return layer

    layer = made(2)
    before, x = layer.get_weights(), tf.ones((4, 3))
    dropped = layer(x, training=True)
    contract.randomize(layer.trainable_variables)
    again = made(2)
    assert again is layer and calls == [2]
    contract.assert_same_bits(again.get_weights(), before)
    contract.assert_same_bits(again(x, training=True), dropped)  # the same units
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    assert made(2) is not layer and made(3) is not layer and calls == [2, 2, 3]
