"""Group normalisation over real positions: against NumPy, against Keras, whatever the padding."""

import keras
import numpy as np

from mmkeras.layers import MaskedGroupNorm, groups_of
from tests.core.errors import says


def test_against_numpy_over_real_positions(rng):
    x = rng.standard_normal((3, 5, 2, 6)).astype("float32") * 3 + 1
    mask = np.array([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
    x[~mask] = np.nan
    layer = MaskedGroupNorm(3)
    layer.build(x.shape)
    layer.set_weights([rng.standard_normal(6), rng.standard_normal(6)])
    found = layer(x, mask).numpy()
    gamma, beta = (w.astype("float64") for w in layer.get_weights())
    for row in (0, 1):
        real = x[row, mask[row]].astype("float64").reshape(-1, 2, 3, 2)
        mean = real.mean(axis=(0, 1, 3), keepdims=True)
        variance = real.var(axis=(0, 1, 3), keepdims=True)
        expected = ((real - mean) / np.sqrt(variance + 1e-3)).reshape(-1, 2, 6) * gamma + beta
        np.testing.assert_allclose(found[row, mask[row]], expected, atol=2e-5)
    assert not found[~mask].any()


def test_equal_to_keras_where_all_is_real(rng):
    x = rng.standard_normal((4, 5, 8)).astype("float32")
    found = MaskedGroupNorm(2)(x, np.ones((4, 5), bool)).numpy()
    np.testing.assert_allclose(found, keras.layers.GroupNormalization(2)(x).numpy(), atol=1e-5)


def test_groups_divide():
    assert [groups_of(n) for n in (1, 8, 12, 28, 64, 80)] == [1, 1, 1, 1, 8, 10]
    with says(ValueError, "must divide", "groups=3", "8 channels"):
        MaskedGroupNorm(3).build((None, 5, 8))
