"""How often a step is traced: once per shape of a batch, whatever is called how often."""

import keras
import numpy as np
import tensorflow as tf

import mmkeras as mk


@keras.saving.register_keras_serializable(package="tests")
class Counted(keras.layers.Dense):
    """Counts the calls that trace it for training."""

    calls = 0

    def call(self, x, training=False):
        Counted.calls += bool(training)
        return super().call(x)


def build():
    inputs = {"a": keras.Input((3,), name="a")}
    model = mk.Model(inputs, {"b": Counted(2, name="b")(inputs["a"])})
    model.compile(mk.training.optimizer("adamw"), loss="mse", jit=False)
    return model


def rows(count, size):
    x, y = {"a": np.ones((count, 3), "float32")}, {"b": np.ones((count, 2), "float32")}
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size, drop_remainder=True)


def counts(model):
    step = model._compiled_gradient.experimental_get_tracing_count()
    train = model.train_function.experimental_get_tracing_count()
    return step, train, model.test_function.experimental_get_tracing_count()


def test_one_trace_per_shape():
    model, Counted.calls = build(), 0
    model.fit(rows(8, 4), validation_data=rows(4, 4), epochs=3, verbose=0)
    assert counts(model) == (1, 1, 1)
    assert Counted.calls == 1
    model.fit(rows(8, 4), validation_data=rows(4, 4), epochs=2, verbose=0)
    model.evaluate(rows(4, 4), verbose=0)
    assert counts(model) == (1, 1, 1)
    model.fit(rows(6, 2), epochs=2, verbose=0)
    assert counts(model) == (2, 2, 1)
    assert Counted.calls == 2
