"""Batches from which a contrastive objective can learn nothing: what it does with them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.objectives import Contrastive, MomentumContrastive

SPECS = {name: mk.Vector(size=3, normalize=False) for name in ("a", "b")}
ROWS, K = 4, 9
OBJECTIVES = {
    "info_nce": lambda: Contrastive(4),
    "hard_nce": lambda: Contrastive(4, "hard_nce"),
    "siglip": lambda: Contrastive(4, "siglip"),
    "triplet": lambda: Contrastive(4, "triplet", margin=0.3),
    "queue": lambda: MomentumContrastive(4, K, soft=0.4),
}
# of a pair without negatives, and of ROWS pairs that are all the same
ALONE = {"info_nce": 0.0, "hard_nce": 0.0, "triplet": 0.0, "queue": 0.0}
SAME = {"info_nce": np.log(4), "hard_nce": np.log(4), "triplet": 0.6, "queue": np.log(4)}


@pytest.fixture(scope="module", params=OBJECTIVES)
def trained(request):
    """Name, the model as it began, and a step that returns the loss, and if a weight moved."""
    keras.utils.set_random_seed(1)
    model = mk.assemble(SPECS, heads={"match": OBJECTIVES[request.param]()})
    model.compile(keras.optimizers.SGD(0.1), jit=False)
    model.make_train_function()
    begin = [v.numpy() for v in model.variables]

    def again():
        model.reset_metrics()
        for variable, value in zip(model.variables, begin, strict=True):
            variable.assign(value)
        return model

    def step(x):
        loss = model.train_on_batch(x, {}, return_dict=True)["loss"]
        assert np.isfinite(loss) and all(np.isfinite(v.numpy()).all() for v in model.variables)
        pairs = zip(model.variables, begin, strict=True)
        return loss, any(v.trainable and not np.array_equal(v.numpy(), b) for v, b in pairs)

    return request.param, again, step


def batch_of(rows=ROWS, there=True, same=False):
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((rows, 3)).astype("float32") for name in SPECS}
    x = {name: np.tile(v[:1], (rows, 1)) for name, v in x.items()} if same else x
    return {**x, "a_mask": np.ones(rows, bool), "b_mask": np.full(rows, there)}


def siglip_of(model, x):
    e = model.predict_on_batch(x)["match"]
    z = model.get_layer("match").scale * e[:, 0] @ e[:, 1].T - 10.0
    signs = 2.0 * np.eye(len(z)) - 1.0
    return np.log1p(np.exp(-signs * z)).sum() / len(z)


def test_one_pair(trained):
    name, again, step = trained
    model = again()
    expected = ALONE.get(name, siglip_of(model, batch_of(1)))
    assert step(batch_of(1))[0] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_all_pairs_the_same(trained):
    name, again, step = trained
    model = again()
    expected = SAME.get(name, siglip_of(model, batch_of(same=True)))
    assert step(batch_of(same=True))[0] == pytest.approx(expected, rel=1e-5)


def test_a_modality_absent_in_every_row(trained):
    name, again, step = trained
    model = again()
    assert step(batch_of(there=False)) == (0.0, False)
    if name == "queue":
        queue = np.array(model._mm_joint.momenta["match"].queue)
        assert queue[0].any(-1).sum() == ROWS and not queue[1].any()


@pytest.mark.parametrize("loss", ["info_nce", "hard_nce", "siglip"])
def test_at_its_clamp_the_temperature_can_only_fall(loss):
    layer = Contrastive(3, loss, scale=5.0, max_scale=8.0, modalities=("a", "b"))
    layer.build({name: {"tokens": (None, 1, 3)} for name in SPECS})
    apart = np.eye(3, dtype="float32")
    near = np.stack([apart, apart], axis=1)  # every pair the same vector: a larger scale is better
    far = np.stack([apart, apart[[1, 2, 0]]], axis=1)  # every pair wrong: a smaller one is

    def gradient(outputs, log_scale):
        layer.log_scale.assign(log_scale)
        with tf.GradientTape() as tape:
            value = layer.batch_loss(tf.constant(outputs))
        return float(tape.gradient(value, layer.log_scale.value)), float(value)

    limit = np.log(8.0)
    below, at, above = limit - 1e-5, limit + 1e-6, limit + 1.0
    expected = gradient(far, below)
    assert gradient(near, below)[0] < 0.0 < expected[0]
    for place in (at, above):
        assert gradient(near, place)[0] == 0.0
        assert gradient(far, place) == pytest.approx(expected, rel=1e-3)
        assert float(layer.inverse_temperature()) == pytest.approx(8.0, rel=1e-5)
    layer.log_scale.assign(above)
    for _ in range(150):
        layer.log_scale.assign_sub(0.01 * gradient(far, float(layer.log_scale))[0])
    assert float(layer.log_scale) < limit  # it has come back
