"""Pairs and hard negatives, and the three losses of ALBEF in one model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.objectives import Contrastive, Matching
from mmkeras.objectives.matching import HardNegatives
from tests import contract
from tests.objectives import inputs

SPECS = {name: inputs.SPECS[name] for name in ("image", "text")}
ENCODERS = {
    "image": {"name": "cnn", "filters": (8,)},
    "text": {"name": "transformer", "num_layers": 1, "hidden_dim": 8, "num_heads": 2},
}


def vectors(rng, rows=6, dim=3):
    e = rng.standard_normal((rows, 2, dim)).astype("float32")
    e /= np.linalg.norm(e, axis=-1, keepdims=True)
    e[2, 0] = 0.0  # an absent a
    e[4, 1] = e[1, 1]  # a b that is another's too
    return e


def test_negatives_are_drawn_by_how_near_they_are(rng):
    e = vectors(rng)
    size, draws, temperature = 6, 1500, 0.5
    layer = HardNegatives(("a", "b"), (0, 1), temperature=temperature, seed=0)
    index = np.arange(size, dtype="float32")[:, None, None]
    encoded = {m: {"tokens": index, "mask": np.ones((size, 1), bool)} for m in ("a", "b", "c")}
    given = contract.tensors((e, encoded))
    draw = tf.function(lambda: layer(*given, training=True), autograph=False)
    counts = np.zeros((2, size, size))
    for _ in range(draws):
        pairs, valid = contract.as_numpy(draw())
        a, b, c = (pairs[m]["tokens"][:, 0, 0].astype(int).reshape(3, size) for m in "abc")
        own = np.arange(size)
        assert (a[:2] == own).all() and (b[[0, 2]] == own).all() and (c == own).all()
        counts[0, own, b[1]] += 1
        counts[1, own, a[2]] += 1
    assert valid.tolist() == [[i != 2] * 3 for i in range(size)]
    z = e[:, 0] @ e[:, 1].T / temperature
    for counted, scores in ((counts[0], z), (counts[1], z.T)):
        for i in (0, 1, 3, 4, 5):
            others = [j for j in (0, 1, 3, 4, 5) if (e[i] * e[j]).sum(1).max() < 1 - 1e-6]
            p = np.zeros(size)
            p[others] = np.exp(scores[i, others]) / np.exp(scores[i, others]).sum()
            assert counted[i] / draws == pytest.approx(p, abs=0.05)  # 4 standard deviations
            assert not counted[i][p == 0].any()


def test_a_sentence_that_stands_twice_is_no_negative_in_mixed_precision(rng):
    e = vectors(rng, rows=64, dim=33)
    e[:, 1] = e[np.arange(64) % 2, 1]
    e[2] = e[0]
    layer = HardNegatives(("a", "b"), (0, 1), seed=0, dtype="mixed_bfloat16")
    index = np.arange(64, dtype="float32")[:, None, None]
    encoded = {m: {"tokens": index, "mask": np.ones((64, 1), bool)} for m in ("a", "b")}
    pairs, valid = contract.as_numpy(layer(*contract.tensors((e, encoded)), training=True))
    a, b = (pairs[m]["tokens"][:, 0, 0].astype(int).reshape(3, 64) for m in "ab")
    assert valid.all() and (b[1] % 2 != np.arange(64) % 2).all()
    assert (a[2] % 2 != np.arange(64) % 2).all(), "the sentence is true of that picture too"


def test_pairs_are_judged_by_binary_cross_entropy(rng):
    layer = Matching("match", modalities=("a", "b"), name="pairing")
    pooled = rng.standard_normal((9, 4)).astype("float32")
    valid = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)
    found = contract.as_numpy(layer({"tokens": pooled, "valid": valid}))
    kernel, bias = (w.numpy() for w in layer.dense.weights)
    p = 1 / (1 + np.exp(-(pooled.astype("float64") @ kernel + bias)[:, 0].reshape(3, 3).T))
    losses = -np.log(np.stack([p[:, 0], 1 - p[:, 1], 1 - p[:, 2]], axis=1))
    np.testing.assert_allclose(found[:, 0], (losses * valid).sum(1), rtol=1e-5)
    assert found[:, 1].tolist() == [2, 0, 3]


@contract.made_once
def albef():
    return mk.models.albef_like(SPECS, ENCODERS, dim=4, hidden_dim=8, rate=0.4)


def batch():
    x = inputs.batch()
    return {key: value for key, value in x.items() if not key.startswith("track")}


def test_albef_trains_every_weight_saves_and_hands_its_encoders_on(tmp_path):
    model, x = albef(), batch()
    contract.randomize(model.trainable_variables, scale=0.1)
    model.compile(keras.optimizers.SGD(0.1), jit=True)
    before = [v.numpy() for v in model.trainable_variables]
    logs = model.train_on_batch(x, {}, return_dict=True)
    parts = [logs[f"{name}_loss"] for name in ("match", "pairing", "words")]
    assert logs["loss"] == pytest.approx(sum(parts), rel=1e-5) and min(parts) > 0
    still = [
        v.path
        for v, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(v.numpy(), old)
    ]
    # Where the text is absent there is no pair and no word: nothing is to be learnt of it.
    assert still == ["fusion/text_absent/token"]
    out = model.predict_on_batch(x)
    # Rows 1 and 2 have no text and no picture.
    assert out["pairing"][:, 1].tolist() == [3, 0, 0, 3, 3, 3]
    y = {**x, "image": np.where(x["image_mask"][:, None, None, None], x["image"], 3)}
    y = {**y, "image": y["image"].astype("uint8"), "text": np.where(x["text_mask"], x["text"], 4)}
    contract.assert_same_bits(model.predict_on_batch(y), out)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    contract.assert_same_bits(loaded.predict_on_batch(x), out)
    own = {key: x[key] for key in ("image", "image_mask")}
    taken = [mk.encoders.of(m, "image").predict_on_batch(own) for m in (model, loaded)]
    contract.assert_same_bits(*taken)


def test_the_export_holds_the_embeddings(tmp_path):
    model = albef()
    mk.export.saved_model(model, SPECS, tmp_path / "1")
    rng = np.random.default_rng(0)
    rows = {
        "image": list(rng.integers(0, 256, (3, 16, 20, 3)).astype("uint8")),
        "text": ["a b c", "h g", ""],
    }
    data = mk.data.table(rows, SPECS)
    parity = mk.export.check_parity(model, SPECS, tmp_path / "1", data.raw("train", range(3)))
    assert set(parity) == {"match"} and parity["match"] < 1e-4  # the other outputs are losses


def test_a_batch_of_one_pair_has_no_negative():
    model = albef()
    x = {key: value[:1] for key, value in batch().items()}
    out = model.predict_on_batch(x)["pairing"]
    assert out[0, 1] == 1 and np.isfinite(out).all()


def test_negatives_are_of_the_micro_batch():
    encoders = {**ENCODERS, "text": {**ENCODERS["text"], "dropout": 0.0}}
    model, x = mk.models.albef_like(SPECS, encoders, dim=4, hidden_dim=8), batch()
    model.compile(keras.optimizers.SGD(0.0), jit=False, accumulate_steps=6)
    logs = model.train_on_batch(x, {}, return_dict=True)
    single = [
        model.predict_on_batch({key: value[i : i + 1] for key, value in x.items()})["pairing"][0]
        for i in range(6)
    ]
    # Six micro-batches of a row: there is no negative, the true pairs alone are judged.
    assert [count for _, count in single] == [1, 0, 0, 1, 1, 1]
    expected = sum(loss for loss, _ in single) / 4
    assert logs["pairing_loss"] == pytest.approx(expected, rel=1e-5)


def test_pairs_that_are_all_the_same_have_no_negative():
    model, x = albef(), batch()
    x = {key: np.repeat(value[:1], 4, axis=0) for key, value in x.items()}
    out = model.predict_on_batch(x)["pairing"]
    assert out[:, 1].tolist() == [1] * 4 and np.isfinite(out).all()


def test_a_modality_that_is_absent_in_every_row_has_no_pair():
    model, x = albef(), batch()
    x = {**x, "image_mask": np.zeros_like(x["image_mask"])}
    out = model.predict_on_batch(x)["pairing"]
    assert not out.any()
    assert float(model.get_layer("pairing").batch_loss(out)) == 0.0


def test_what_matching_needs():
    with pytest.raises(ValueError, match="'match' must be a contrastive objective that stands"):
        heads = {"pairing": Matching("match"), "match": Contrastive(4)}
        mk.assemble(SPECS, ENCODERS, heads=heads)
    with pytest.raises(ValueError, match="A pair has two modalities"):
        heads = {"match": Contrastive(4), "pairing": Matching("match")}
        mk.assemble(inputs.SPECS, inputs.ENCODERS, heads=heads)
    with pytest.raises(ValueError, match="a text and one other modality. Received: {'image'"):
        mk.models.albef_like({"image": SPECS["image"]})
