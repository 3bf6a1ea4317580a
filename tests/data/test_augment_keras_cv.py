"""Cut-outs and grids are those of keras-cv for the same draws; its layers take no seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras import Image
from mmkeras.data.augment_image import OPS


def applied(op, pixels, drawn):
    """The operation where `drawn` is what is drawn."""
    draws = SimpleNamespace(uniform=lambda rows, *shape: tf.reshape(drawn, (rows, *shape)))
    return op(pixels, None, draws).numpy()


@pytest.fixture(scope="module")
def layers():
    import keras_cv

    return keras_cv.layers


def test_cutout(layers, rng):
    pixels = rng.uniform(1.0, 255.0, (5, 12, 16, 3)).astype("float32")
    y, x = np.array([0, 3, 6, 11, 8]), np.array([2, 15, 0, 7, 9])
    sides = tf.fill((5,), 6)
    expected = layers.RandomCutout(0.5, 0.5).augment_images(
        pixels,
        transformations={
            "centers_x": tf.constant(x, tf.int32),
            "centers_y": tf.constant(y, tf.int32),
            "rectangles_height": sides,
            "rectangles_width": sides,
        },
    )
    op = OPS["cutout"](Image(size=(12, 16)), fraction=0.5)
    drawn = tf.constant(np.stack([y / 12, x / 16], axis=1), tf.float32)
    found = applied(op, pixels, drawn)
    np.testing.assert_array_equal(found, expected)
    assert 0 < (found == 0).mean() < 0.2


@pytest.mark.parametrize(("unit", "ratio", "dy", "dx"), [(6, 0.5, 1, 4), (8, 0.25, 7, 0)])
def test_grid_mask(layers, rng, unit, ratio, dy, dx):
    size = 16
    pixels = rng.uniform(1.0, 255.0, (1, size, size, 3)).astype("float32")
    layer = layers.GridMask(ratio_factor=ratio, rotation_factor=0.0)
    values = iter([float(unit), float(dx), float(dy)])
    layer._random_generator = SimpleNamespace(uniform=lambda **_: tf.constant(next(values)))
    mask = tf.cast(layer._compute_grid_mask((size, size, 3), ratio), tf.float32)[..., None]
    expected = layer.augment_image(pixels[0], transformation=(mask, tf.zeros((size, size, 3))))
    op = OPS["grid_mask"](Image(size=size), unit=(unit / size, unit / size), ratio=ratio)
    cropped = (int(np.ceil(np.hypot(size, size))) - size) // 2
    offsets = [(cropped + d + ratio * unit + size / 2) / unit % 1.0 for d in (dy, dx)]
    drawn = tf.constant([0.0, *offsets, 0.5], tf.float32)
    found = applied(op, pixels, drawn)[0]
    np.testing.assert_array_equal(found, expected)
    assert (found == 0).mean() == pytest.approx(ratio**2, abs=0.1)
