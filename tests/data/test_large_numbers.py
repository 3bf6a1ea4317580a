"""Finite numbers that a model cannot bear are unreadable, by one rule for every kind."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import decoder
from mmkeras.data.tolerant import tolerant

HEIGHTS = {
    "vector": (mk.Vector(size=1), 1),
    "steps": (mk.Vector(size=1, steps=2), (1, 1)),
    "series": (mk.Series(steps=2), (1, 1)),
    "table": (mk.Table(numeric=("n",)), None),
}


@pytest.mark.parametrize("name", HEIGHTS)
@pytest.mark.parametrize("number", [2.1e9, -3.4e38, 1e39])
def test_numbers_too_large_for_a_model(name, number):
    modality, shape = HEIGHTS[name]
    modality = modality.replace(mean=(10.0,), scale=(2.0,))
    column = "n" if shape is None else "x"

    def cells(numbers):
        return numbers if shape is None else [np.full(shape, n, np.float32) for n in numbers]

    with np.errstate(over="ignore"):
        good, rows = cells([4.0, 1.9e9]), cells([4.0, 1.9e9, number])
    mk.data.table({column: good}, {"x": modality})
    with pytest.raises(ValueError, match="row 3 of .*'x': "):
        mk.data.table({column: rows}, {"x": modality})
    with pytest.warns(UserWarning, match="cannot be read"):
        data = mk.data.table({column: rows}, {"x": modality}, on_bad="mask")
    assert list(data.bad["train"]["x"]) == [3]
    decode = decoder(modality)
    raw = np.asarray(rows, np.float32) if shape else np.array([[str(n)] for n in rows])
    value, mask, bad = tolerant(decode, tf.constant(raw))
    assert bad.numpy().tolist() == [False, False, True]
    x, *_ = next(iter(data.batches("train", 3)))
    np.testing.assert_array_equal(x["x"], value)
    np.testing.assert_array_equal(x["x_mask"], mask)


def test_the_rule_is_said_of_rows_that_only_statistics_tell():
    rows, late = {"x": [[1.0], [3.0]]}, {"x": [[2.0], [5e9]]}
    with pytest.raises(ValueError, match=r"valid rows .*row 2 .*beyond 1e\+09 as the model sees"):
        mk.data.table(rows, {"x": mk.Vector(size=1)}, valid=late)
    with pytest.raises(ValueError, match=r"row 2 .*normalize=False"):
        mk.data.table(late, {"x": mk.Vector(size=1, normalize=False)})
