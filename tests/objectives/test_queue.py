"""InfoNCE against a queue: NumPy parity, shares, masks; the queue itself is first in, first out."""

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.objectives import info_nce, queue_nce
from mmkeras.objectives.queue import pushed

N, K, D, SCALE = 7, 5, 3, 4.0
rng = np.random.default_rng(0)
UNIT = rng.standard_normal((6, N, D))
UNIT = (UNIT / np.linalg.norm(UNIT, axis=-1, keepdims=True)).astype("float32")
A, B, KEY_A, KEY_B = UNIT[:4]
QUEUES = UNIT[4:, :K].copy()
QUEUES[0, :2] = 0.0  # not full yet
MASK = np.array([1, 0, 1, 1, 1, 0, 1], bool)
WEIGHTS = rng.uniform(0.5, 1.5, N).astype("float32")


def formula(soft, mask, weights):
    """With loops, in float64."""
    total, there = 0.0, np.flatnonzero(mask)
    for x, own, key, queue in ((A, KEY_A, KEY_B, QUEUES[1]), (B, KEY_B, KEY_A, QUEUES[0])):
        held = [key[j] for j in there] + [row for row in queue if row.any()]
        held = np.array(held, "float64")
        for place, i in enumerate(there):
            z = SCALE * held @ x[i]
            teacher = np.exp(SCALE * held @ own[i])
            target = soft * teacher / teacher.sum()
            target[place] += 1.0 - soft
            total += weights[i] * (np.log(np.exp(z).sum()) - target @ z) / 2
    return total / len(there)


def measured(soft=0.0, parts=(None,), jit=False, a=A, keys=(KEY_A, KEY_B), **given):
    """Loss and gradients of both sets, scale, keys and queues."""
    inputs = [tf.constant(v) for v in (a, B, np.float32(SCALE), *keys, *QUEUES)]

    def run(*inputs):
        a, b, scale, *rest = inputs
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            held = {"keys": rest[:2], "queues": rest[2:], "scale": scale, "soft": soft, **given}
            loss = sum(queue_nce(a, b, rows=part, **held) for part in parts)
        return loss, *tape.gradient(loss, inputs, unconnected_gradients="zero")

    return [t.numpy() for t in tf.function(run, jit_compile=jit or None, autograph=False)(*inputs)]


@pytest.mark.parametrize("soft", [0.0, 0.4])
def test_formula_shares_and_xla(soft):
    given = {"mask": MASK, "weights": WEIGHTS}
    found = measured(soft, **given)
    assert found[0] == pytest.approx(formula(soft, MASK, WEIGHTS), rel=1e-5)
    assert measured(soft)[0] == pytest.approx(formula(soft, np.ones(N), np.ones(N)), rel=1e-5)
    assert all(np.abs(g).max() > 0 for g in found[1:4])
    assert not any(g.any() for g in found[4:])  # keys and queues learn nothing
    for other in (measured(soft, [(0, 3), (3, 4)], **given), measured(soft, jit=True, **given)):
        for one, two in zip(found, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fill", [np.nan, 3e38])
def test_content_behind_a_false_mask_changes_no_bit(fill):
    expected = measured(0.4, mask=MASK)
    changed = [np.where(MASK[:, None], v, np.float32(fill)) for v in (A, KEY_A, KEY_B)]
    found = measured(0.4, mask=MASK, a=changed[0], keys=changed[1:])
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_an_empty_queue_and_the_model_s_own_keys_are_info_nce():
    empty = np.zeros((K, D), "float32")
    found = queue_nce(A, B, keys=(A, B), queues=(empty, empty), scale=SCALE, mask=MASK)
    assert float(found) == pytest.approx(float(info_nce(A, B, scale=SCALE, mask=MASK)), rel=1e-6)
    none = queue_nce(
        A, B, keys=(A, B), queues=(empty, empty), scale=SCALE, mask=np.zeros(N, bool), soft=0.5
    )
    assert float(none) == 0.0


@pytest.mark.parametrize("jit", [False, True])
def test_the_queue_holds_the_newest_real_rows(jit):
    push = tf.function(pushed, jit_compile=jit or None)
    queue, held = np.zeros((K, D), "float32"), []
    for step in range(6):
        keys = rng.standard_normal((4 if step else 9, D)).astype("float32")
        keys[rng.random(len(keys)) < (1.0 if step == 3 else 0.5)] = 0.0
        held += [row for row in keys if row.any()]
        queue = push(queue, keys).numpy()
        newest = np.array(held[-K:])
        np.testing.assert_array_equal(queue[K - len(newest) :], newest)
        assert not queue[: K - len(newest)].any()
    assert len(held) > K
