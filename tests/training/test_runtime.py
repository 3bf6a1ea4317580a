"""Strategy, precision and seeds."""

import keras
import pytest
import tensorflow as tf

import mmkeras as mk


def test_strategy_specs():
    assert mk.training.strategy("mirrored").num_replicas_in_sync >= 1
    assert isinstance(mk.training.strategy("auto"), tf.distribute.Strategy)
    with pytest.raises(ValueError, match="'auto', 'mirrored', 'workers' or 'cpu:N'.*'tpu'"):
        mk.training.strategy("tpu")


def test_logical_devices_must_come_first():
    tf.zeros(1)  # TensorFlow has made its devices now
    with pytest.raises(RuntimeError, match="'cpu:3' must be asked for before TensorFlow is used"):
        mk.training.strategy("cpu:3")


def test_precision_sets_the_policy_of_new_layers():
    assert mk.training.precision("mixed_bfloat16").compute_dtype == "bfloat16"
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert layer.compute_dtype == "bfloat16" and layer.kernel.dtype == "float32"
    with pytest.raises(ValueError, match="`policy` must be one of.*float8"):
        mk.training.precision("float8")


def test_seed_repeats_the_initial_weights():
    def kernel():
        mk.training.seed(3)
        layer = keras.layers.Dense(4)
        layer.build((None, 4))
        return layer.kernel.numpy().tolist()

    assert kernel() == kernel()
    with pytest.raises(ValueError, match="`seed` must be a whole number"):
        mk.training.seed(-1)
