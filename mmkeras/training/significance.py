"""What seeds say: the interval of a mean, paired differences, and Holm's correction.

Student's t distribution comes from TensorFlow's regularised incomplete beta function; the tests
hold it to SciPy's.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf


def p_of_t(t: float, freedom: int) -> float:
    """Returns the probability of a |t| at least as large, under Student's t."""
    if math.isinf(t):
        return 0.0
    x = tf.constant(freedom / (freedom + t * t), tf.float64)
    return float(tf.math.betainc(tf.constant(freedom / 2, tf.float64), 0.5, x))


def quantile(freedom: int, level: float = 0.95) -> float:
    """Returns the t that |t| stays below with the probability `level`."""
    low, high = 0.0, 1.0
    while p_of_t(high, freedom) > 1 - level:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if p_of_t(middle, freedom) > 1 - level else (low, middle)
    return high


def interval(values: Sequence[float]) -> list[float]:
    """Returns the 95 % t-interval of the mean over seeds; of a single value itself, twice."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return [mean, mean]
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = quantile(len(values) - 1) * error
    return [mean - half, mean + half]


def paired(values: Sequence[float], reference: Sequence[float]) -> dict:
    """Returns what pairs (the same seed) tell of values less reference.

    Returns:
        "difference": the mean one; "interval": its 95 % t-interval; "p": of the paired t-test, two
        sided; None for fewer than two pairs, and where all differ by the same amount, so that
        nothing is known of the spread; 1 where all pairs are equal.
    """
    gaps = np.subtract(values, reference)
    found = {"difference": float(gaps.mean()), "interval": interval(gaps), "p": None}
    if len(gaps) > 1:
        error = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
        if error > 1e-12 * max(1.0, abs(found["difference"])):
            found["p"] = p_of_t(found["difference"] / error, len(gaps) - 1)
        elif not gaps.any():
            found["p"] = 1.0
    return found


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Returns p values corrected for their number (Holm 1979): below a, at most a wrong in all."""
    corrected, before = {}, 0.0
    for place, name in enumerate(sorted(p, key=p.get)):
        before = max(before, min(1.0, (len(p) - place) * p[name]))
        corrected[name] = before
    return {name: corrected[name] for name in p}
