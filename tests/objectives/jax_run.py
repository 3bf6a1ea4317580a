"""Losses and gradients of batch statistics: `python -m tests.objectives.jax_run IN.npz OUT.npz`."""

import os
import sys

import keras
import numpy as np

from mmkeras import objectives

LOSSES = {
    "vicreg": objectives.vicreg,
    "barlow_twins": objectives.barlow_twins,
    "cca": objectives.cca,
    "soft_targets": lambda a, b, mask: keras.ops.sum(objectives.soft_targets(a, b, 3.0)),
}


def numbers(held):
    """Name -> value and gradient, by whatever the backend is."""
    a, b, mask = (held[name] for name in ("a", "b", "mask"))
    out = {}
    for name, loss in LOSSES.items():
        if keras.backend.backend() == "jax":
            import jax

            value, gradient = jax.value_and_grad(lambda x, f=loss: f(x, b, mask=mask))(a)
        else:
            import tensorflow as tf

            x = tf.constant(a)
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x, tf.constant(b), mask=tf.constant(mask))
            gradient = tape.gradient(value, x)
        out[name], out[f"{name}_gradient"] = np.asarray(value), np.asarray(gradient)
    return out


if __name__ == "__main__":
    assert os.environ["KERAS_BACKEND"] == "jax"
    with np.load(sys.argv[1]) as held:
        np.savez(sys.argv[2], **numbers(held))
