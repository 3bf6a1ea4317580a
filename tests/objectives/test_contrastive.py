"""Contrastive losses against NumPy, whole, in tiles and in shares; masks; what is degenerate."""

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.objectives import Contrastive, hard_nce, info_nce, siglip, triplet

N, D = 11, 6
rng = np.random.default_rng(0)
A, B = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.standard_normal((2, N, D)))
A, B = A.astype("float32"), B.astype("float32")
MASK = np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1], bool)
GROUPS = np.array([3, 1, 3, 1, 7, 7, 7, 5, 9, 9, 3])
WEIGHTS = rng.uniform(0.5, 1.5, N).astype("float32")
SCALE, BIAS, HARDNESS = 7.0, -3.0, 0.7
OPTIONS = {
    "plain": {},
    "masked": {"mask": MASK},
    "all": {"mask": MASK, "groups": GROUPS, "weights": WEIGHTS},
}
LOSSES = {
    "info_nce": (info_nce, {"scale": SCALE}),
    "hard_nce": (hard_nce, {"scale": SCALE, "hardness": HARDNESS}),
    "siglip": (siglip, {"scale": SCALE, "bias": BIAS}),
    "triplet": (triplet, {"margin": 0.3}),
    "triplet, all": (triplet, {"margin": 0.3, "negatives": "all"}),
    "triplet, semi-hard": (triplet, {"margin": 0.3, "negatives": "semi_hard"}),
}


def formula(name, mask=None, groups=None, weights=None, a=A, b=B):
    """The mean of the pairs' losses, with loops, in float64."""
    mask = np.ones(N, bool) if mask is None else mask
    groups = np.arange(N) if groups is None else groups
    weights = np.ones(N) if weights is None else weights
    a, b = a.astype("float64"), b.astype("float64")
    there = [i for i in range(N) if mask[i]]
    total = 0.0
    for i in there:
        same = [j for j in there if groups[j] == groups[i]]
        other = [j for j in there if groups[j] != groups[i]]
        loss = 0.0
        for x, y in ((a, b), (b, a)):
            cos = x[i] @ y.T
            if name == "info_nce":
                z = SCALE * cos
                loss += (np.log(sum(np.exp(z[j]) for j in there)) - np.mean(z[same])) / 2
            elif name == "hard_nce":
                z, hard = SCALE * cos, 0.0
                if other:
                    near = np.exp(HARDNESS * z[other])
                    hard = (len(other) * near / near.sum()) @ np.exp(z[other])
                loss += (np.log(np.exp(z[same]).sum() + hard) - np.mean(z[same])) / 2
            elif name == "siglip":
                z = SCALE * cos + BIAS
                signs = [(1 if j in same else -1, z[j]) for j in there]
                loss += sum(np.log1p(np.exp(-s * v)) for s, v in signs) if x is a else 0.0
            elif other:
                own, found = a[i] @ b[i], [cos[j] for j in other]
                hinges = [max(0.0, 0.3 - own + c) for c in found]
                if name == "triplet, all":
                    loss += np.mean(hinges)
                elif name == "triplet":
                    loss += max(hinges)
                else:
                    below = [c for c in found if c < own]
                    loss += max(0.0, 0.3 - own + (max(below) if below else min(found)))
        total += weights[i] * loss
    return total / max(len(there), 1)


def measured(name, jit=False, parts=(None,), a=A, b=B, tile=None, **options):
    """Loss and gradients of both sets, scale and bias."""
    function, given = LOSSES[name]
    inputs = [tf.constant(a), tf.constant(b), *map(tf.constant, given.values())]
    if name.startswith("triplet"):
        inputs = inputs[:2]
    elif tile:
        options["tile"] = tile
    options = {k: tf.constant(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}

    def run(*inputs):
        keys = given if len(inputs) > 2 else {}
        named = {**given, **dict(zip(keys, inputs[2:], strict=True)), **options}
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = sum(function(*inputs[:2], **named, rows=part) for part in parts)
        return [loss, *tape.gradient(loss, inputs)]

    return [t.numpy() for t in tf.function(run, jit_compile=jit or None, autograph=False)(*inputs)]


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_formula(name, options):
    expected = formula(name, **OPTIONS[options])
    assert measured(name, **OPTIONS[options])[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("there", [[1, 1, 1], [1, 1, 0]], ids=["three", "one absent everywhere"])
@pytest.mark.parametrize("name", ["info_nce", "hard_nce", "siglip", "triplet"])
def test_an_objective_is_the_mean_of_its_pairs_that_are_there(name, there):
    """Three modalities with labels, weights and masks, against the formula pair by pair."""
    masks = np.stack([MASK, MASK[::-1], np.arange(N) % 3 != 1], axis=1) & np.array(there, bool)
    vectors = np.stack([A, B, np.roll(A, 1, axis=0)], axis=1) * masks[..., None]
    options = {"hardness": HARDNESS} if name == "hard_nce" else {"margin": 0.3}
    layer = Contrastive(D, name, scale=SCALE, modalities=("a", "b", "c"), **options)
    layer.build({m: {"tokens": (None, 1, 2), "mask": (None, 1)} for m in "abc"})
    if name == "siglip":
        layer.bias.assign(BIAS)
    pairs = [(i, j) for i, j in ((0, 1), (0, 2), (1, 2)) if there[i] and there[j]]
    expected = [
        formula(name, masks[:, i] & masks[:, j], GROUPS, WEIGHTS, vectors[:, i], vectors[:, j])
        for i, j in pairs
    ]
    found = layer.batch_loss(*map(tf.constant, (vectors, GROUPS, WEIGHTS)))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("y", "weights", "says"),
    [
        (GROUPS[:, None], None, r"'match' must be the class of every sample.*\(11, 1\)"),
        (GROUPS.astype("float32"), None, r"int \(N,\).*float32 \(11,\)"),
        (GROUPS, WEIGHTS[:, None], r"sample weights of 'match' must be \(N,\).*\(11, 1\)"),
    ],
)
def test_truth_of_another_shape_is_refused(y, weights, says):
    layer = Contrastive(D, "triplet", modalities=("a", "b"), name="match")
    with pytest.raises(ValueError, match=says):
        layer.batch_loss(np.stack([A, B], axis=1), y, weights)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_shares_and_tiles_are_the_whole(name, options):
    whole = measured(name, **OPTIONS[options])
    shares = [(0, 4), (4, 7)]
    close(measured(name, parts=shares, **OPTIONS[options]), whole)
    if not name.startswith("triplet"):
        for tile in (4, 64):
            close(measured(name, tile=tile, **OPTIONS[options]), whole)
        close(measured(name, tile=3, parts=shares, **OPTIONS[options]), whole)


@pytest.mark.parametrize("name", ["info_nce", "hard_nce", "siglip"])
def test_compiled_tiles(name):
    close(measured(name, jit=True, tile=4, **OPTIONS["all"]), measured(name, **OPTIONS["all"]))


@pytest.mark.parametrize("fill", [np.nan, 3e38])
@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_content_behind_a_false_mask_changes_no_bit(name, tile, fill):
    expected = measured(name, tile=tile, **OPTIONS["all"])
    changed = [np.where(MASK[:, None], v, np.float32(fill)) for v in (A, B)]
    found = measured(name, tile=tile, a=changed[0], b=changed[1], **OPTIONS["all"])
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    assert not found[1][~MASK].any() and not found[2][~MASK].any()


@pytest.mark.parametrize("tile", [None, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_degenerate_batches(name, tile):
    """No pair: zero. One pair: no negatives. All the same: log N, and no gradient direction."""
    none = measured(name, tile=tile, mask=np.zeros(N, bool))
    assert all(not value.any() for value in none)
    one = measured(name, tile=tile, mask=np.arange(N) == 4)
    assert all(np.isfinite(value).all() for value in one)
    assert one[0] == pytest.approx(formula(name, mask=np.arange(N) == 4), abs=1e-6)
    if name != "siglip":
        assert one[0] == 0.0 or name == "info_nce" and abs(one[0]) < 1e-6
    same = np.tile(A[:1], (N, 1))
    found = measured(name, tile=tile, a=same, b=same)
    assert all(np.isfinite(value).all() for value in found)
    if name in ("info_nce", "hard_nce"):
        assert found[0] == pytest.approx(np.log(N), rel=1e-5)


def test_no_hardness_is_info_nce():
    given = {k: tf.constant(v) for k, v in OPTIONS["all"].items()}
    plain = info_nce(A, B, scale=SCALE, **given)
    assert float(hard_nce(A, B, scale=SCALE, hardness=0.0, **given)) == pytest.approx(float(plain))
    # Near negatives count for more: the loss cannot be lower.
    assert float(hard_nce(A, B, scale=SCALE, hardness=1.0, **given)) > float(plain)


def test_extreme_scales_are_finite():
    for name, tile in (("info_nce", None), ("info_nce", 4), ("hard_nce", None), ("hard_nce", 4)):
        loss, *gradients = measured(name, tile=tile, a=100 * A, b=100 * B)
        assert np.isfinite(loss) and all(np.isfinite(g).all() for g in gradients)
