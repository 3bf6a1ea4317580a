"""MixUp and CutMix: against the formulas on neighbours, masks, labels, parts, training, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Label, Labels, Number
from mmkeras.data.blend import mixer
from mmkeras.data.draws import Draws
from tests.core.errors import says

IMAGE, AUDIO = mk.Image(size=(6, 8)), mk.Audio(rate_hz=1000, seconds=0.05)
SPECS = {"image": IMAGE, "audio": AUDIO, "v": mk.Vector(size=3, normalize=False)}
TARGETS = {"c": Label(classes=("x", "y", "z")), "m": Labels(classes=("p", "q")), "n": Number()}
B = 8


def draws(a, b=0):
    return Draws(tf.constant([a, b], tf.uint32))


@pytest.fixture
def batch(rng):
    x = {
        "image": rng.integers(0, 256, (B, 6, 8, 3)).astype("uint8"),
        "image_mask": np.ones(B, bool),
        "audio": rng.uniform(-1, 1, (B, 50)).astype("float32"),
        "audio_mask": np.arange(50) < rng.integers(10, 51, (B, 1)),
        "v": rng.standard_normal((B, 3)).astype("float32"),
        "v_mask": np.ones(B, bool),
    }
    x["audio"][~x["audio_mask"]] = 0
    y = {
        "c": rng.integers(0, 3, B).astype("int32"),
        "m": rng.integers(0, 2, (B, 2)).astype("float32"),
        "n": rng.standard_normal(B).astype("float32"),
    }
    return x, y


def numpy(tree):
    return tf.nest.map_structure(lambda t: t.numpy(), tree)


def test_mixup_blends_neighbours_and_their_labels(batch):
    x, y = batch
    x["v_mask"][2], x["v"][2] = False, 0  # row 2 lacks what row 3 has: the pair stays
    x["v_mask"][4:6], x["v"][4:6] = False, 0  # both lack it: the rest is mixed
    mixed = mixer({"mixup": {"alpha": 1.0}}, SPECS, TARGETS)
    out, truth = numpy(mixed(tf.nest.map_structure(tf.constant, x), y, draws(1)))
    swap = np.arange(B) ^ 1
    one_hot = np.eye(3, dtype="float32")[y["c"]]
    shares = []
    for row in range(B):
        a, b = one_hot[row], one_hot[swap[row]]
        share = (y["n"][swap[row]] - truth["n"][row]) / (y["n"][swap[row]] - y["n"][row])
        shares.append(share)
        np.testing.assert_allclose(truth["c"][row], share * a + (1 - share) * b, atol=1e-4)
        expected = share * y["m"][row] + (1 - share) * y["m"][swap[row]]
        np.testing.assert_allclose(truth["m"][row], expected, atol=1e-4)
        for name in SPECS:
            own, other = (x[name][r].astype("float64") for r in (row, swap[row]))
            expected = share * own + (1 - share) * other
            np.testing.assert_allclose(
                out[name][row], expected, atol=0.51 if name == "image" else 1e-3
            )
        either = x["audio_mask"][row] | x["audio_mask"][swap[row]]
        np.testing.assert_array_equal(
            out["audio_mask"][row], x["audio_mask"][row] if share == 1 else either
        )
    np.testing.assert_allclose(shares[::2], shares[1::2], atol=1e-4)  # one share a pair
    assert shares[2] == shares[3] == 1.0 and len(set(np.round(shares, 3))) == 4
    np.testing.assert_array_equal(out["v_mask"], x["v_mask"])
    assert {k: v.dtype for k, v in out.items()} == {k: v.dtype for k, v in x.items()}


def test_cutmix_pastes_one_box_and_counts_its_pixels(batch):
    x, y = ({k: batch[0][k] for k in ("image", "image_mask")}, {"c": batch[1]["c"]})
    x["image_mask"][6], x["image"][6] = False, 0
    mixed = mixer({"cutmix": {}}, {"image": IMAGE}, {"c": TARGETS["c"]})
    sizes = set()
    for number in range(6):
        out, truth = numpy(mixed(tf.nest.map_structure(tf.constant, x), y, draws(number)))
        for row in range(B):
            other = row ^ 1
            box = (out["image"][row] == x["image"][other]).all(axis=-1)
            kept = (out["image"][row] == x["image"][row]).all(axis=-1)
            assert (box | kept).all()
            if row >= 6:
                assert kept.all()
            elif box.any():
                high, wide = np.nonzero(box)
                assert box[high.min() : high.max() + 1, wide.min() : wide.max() + 1].all()
            share = 1.0 if row >= 6 else 1.0 - box.mean()
            sizes.add(round(float(share), 3))
            one_hot = np.eye(3)[y["c"]]
            expected = share * one_hot[row] + (1 - share) * one_hot[other]
            np.testing.assert_allclose(truth["c"][row], expected, atol=1e-5)
    assert len(sizes) > 8


def test_shares_follow_the_beta_distribution():
    alpha, count = 0.4, 4000
    drawn = draws(3).beta(count, alpha).numpy()
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.var() - 1 / (4 * (2 * alpha + 1))) < 0.01


def table(count=16):
    rng = np.random.default_rng(0)
    rows = {"image": list(rng.integers(0, 256, (count, 8, 8, 3)).astype("uint8"))}
    rows["label"] = [str(i % 3) for i in range(count)]
    return mk.data.table(rows, {"image": mk.Image(size=8)}, "label", valid=rows, seed=2)


@pytest.mark.parametrize("mix", [{"mixup": {"alpha": 0.4}}, {"cutmix": {"alpha": 1.0}}])
def test_parts_of_a_batch_are_mixed_as_the_whole(mix):
    train = table().train(8, mix=mix)
    x, y = next(iter(train.stream()))
    parts = [next(iter(train.stream(shard=(i, 2)))) for i in range(2)]
    for number, whole in enumerate((x, y)):
        for name, value in whole.items():
            found = np.concatenate([part[number][name].numpy() for part in parts])
            np.testing.assert_array_equal(found, value.numpy())
    assert y["label"].shape == (8, 3)
    np.testing.assert_allclose(y["label"].numpy().sum(axis=1), 1.0, atol=1e-6)
    assert (np.sort(y["label"].numpy(), axis=1)[:, 1] > 0).any()


def test_a_classifier_learns_from_soft_labels_and_is_evaluated_on_hard_ones():
    data = table()
    model = mk.assemble(
        data.modalities,
        {"image": {"name": "cnn", "filters": (8,)}},
        "concatenation",
        {"label": mk.heads.Classifier(data.classes)},
        hidden_dim=8,
    )
    model.compile(keras.optimizers.Adam(1e-2), jit=False)
    history = model.fit(
        data.train(8, mix={"mixup": {"alpha": 0.4}}),
        validation_data=data.valid(16),
        epochs=12,
        verbose=0,
    ).history
    assert history["loss"][-1] < history["loss"][0]
    (x, y), *_ = data.valid(16)
    logits = model.predict_on_batch(x)["label"]
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log[np.arange(16), y["label"]].mean()
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-4)
    accuracy = next(history[k][-1] for k in history if k.startswith("val") and "accuracy" in k)
    assert accuracy == pytest.approx((logits.argmax(axis=1) == y["label"].numpy()).mean())
    with says(ValueError, "`class_weight` needs one class per row", "soft labels of 'label'"):
        model.fit(data.train(8, mix={"mixup": {}}), class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize(
    ("mix", "specs", "targets", "parts"),
    [
        ({}, SPECS, TARGETS, ["a dict of one entry", "'mixup': {'alpha': 0.2}"]),
        ({"mixup": {}, "cutmix": {}}, SPECS, TARGETS, ["a dict of one entry"]),
        ({"mixupp": {}}, SPECS, TARGETS, ["Unknown way to mix 'mixupp'", "Did you mean 'mixup'?"]),
        ({"mixup": {"beta": 1}}, SPECS, TARGETS, ["knows the argument 'alpha'", "'beta'"]),
        ({"mixup": {"alpha": 0}}, SPECS, TARGETS, ["`alpha` must lie", "alpha=0"]),
        ({"cutmix": {}}, SPECS, TARGETS, ["'cutmix' can mix image", "'audio'", "Leave `mix` out"]),
        ({"mixup": {}}, {"t": mk.Text()}, TARGETS, ["'mixup' can mix audio", "kind 'text'"]),
        ({"mixup": {}}, SPECS, {}, ["changes the targets", "without any"]),
    ],
)
def test_errors(mix, specs, targets, parts):
    with says(ValueError, *parts):
        mixer(mix, specs, targets)


def test_an_odd_part_is_refused():
    train = table().train(6, mix={"mixup": {}})
    with says(ValueError, "must be even", "batch_size=6 for 2 reader(s)", "multiple of 4"):
        train.stream(shard=(0, 2))
