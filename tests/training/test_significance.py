"""Student's t, paired tests and Holm's correction against SciPy and by hand."""

import numpy as np
import pytest
from scipy import stats

from mmkeras.training import significance


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30])
def test_students_t_is_scipys(freedom):
    for t in (0.0, 0.1, 1.0, 2.776, 7.5, 60.0):
        expected = 2 * stats.t.sf(t, freedom)
        assert significance.p_of_t(t, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    expected = stats.t.ppf(0.975, freedom)
    assert significance.quantile(freedom) == pytest.approx(expected, rel=1e-9)


def test_paired_is_scipys(rng):
    values, reference = rng.normal(0.9, 0.02, (2, 5))
    found = significance.paired(values, reference)
    expected = stats.ttest_rel(values, reference)
    assert found["p"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found["difference"] == pytest.approx((values - reference).mean())
    limits = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found["interval"], [limits.low, limits.high], rtol=1e-9)


def test_pairs_without_spread():
    assert significance.paired([0.5, 0.7], [0.5, 0.7])["p"] == 1.0
    assert significance.paired([0.6, 0.8], [0.5, 0.7])["p"] is None
    assert significance.paired([0.6], [0.5])["p"] is None


def test_holm():
    found = significance.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5})
    assert found == pytest.approx({"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.5})
    assert list(found) == ["a", "b", "c", "d"]
