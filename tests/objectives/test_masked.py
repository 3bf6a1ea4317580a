"""Masked words, patches and frames: formulas, what may be seen, gradients, saving, errors."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.objectives import MaskedFrames, MaskedPatches, MaskedText, Objective
from mmkeras.objectives.masked_values import squared_error
from tests import contract
from tests.objectives import jax_masked
from tests.objectives.inputs import ENCODERS, FUSION, SPECS, batch, heads


@contract.made_once
def model():
    return mk.assemble(SPECS, ENCODERS, FUSION, heads(), hidden_dim=8)


def given(whole, head, x):
    """What an objective is called with."""
    names = ["hidden", "mask", *(["real"] if head == "frames" else []), "target", "tokens"]
    tensors = dict(zip(names, whole.get_layer(head).input, strict=True))  # sorted by name
    return keras.Model(whole.input, tensors).predict_on_batch(x)


def test_masked_words_are_judged_by_cross_entropy(rng):
    layer = MaskedText("text", rate=0.5, vocabulary_size=7, name="words")
    x = {
        "tokens": rng.standard_normal((3, 5, 4)).astype("float32"),
        "ids": rng.integers(0, 7, (3, 5)).astype("int32"),
        "chosen": np.array([[1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]], bool),
    }
    found = contract.as_numpy(layer(x))
    hidden = contract.as_numpy(layer.norm(layer.hidden(x["tokens"]))).astype("float64")
    kernel, bias = (w.numpy() for w in layer.logits.weights)
    z = hidden @ kernel + bias
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    told = -np.take_along_axis(log_p, x["ids"][:, :, None], -1)[:, :, 0]
    expected = [[(told * x["chosen"])[i].sum(), x["chosen"][i].sum()] for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_hidden_units_are_judged_by_the_mean_square_of_their_real_numbers(rng):
    predicted, target = rng.standard_normal((2, 3, 4, 5)).astype("float32")
    hidden, real = rng.random((3, 4)) < 0.5, rng.random((3, 4, 5)) < 0.5
    hidden[1], real[0, 0] = False, False
    hidden[0, 0] = True
    for which in (None, real):
        expected = np.zeros((3, 2))
        for i, j in zip(*np.nonzero(hidden), strict=True):
            there = np.ones(5, bool) if which is None else which[i, j]
            if there.any():
                errors = (predicted[i, j].astype("float64") - target[i, j])[there] ** 2
                expected[i] += [errors.mean(), 1]
        found = contract.as_numpy(squared_error(predicted, target, hidden, which))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_loss_is_a_mean_over_the_batch_and_shares_add_up(rng):
    layer = MaskedPatches("image")
    outputs = np.stack([rng.random(6), rng.integers(0, 4, 6)], 1).astype("float32")
    weights = rng.random(6).astype("float32")
    whole = float(layer.batch_loss(outputs, None, weights))
    assert whole == pytest.approx((outputs[:, 0] * weights).sum() / outputs[:, 1].sum(), rel=1e-6)
    shares = [float(layer.batch_loss(outputs, None, weights, (i, 2))) for i in (0, 2, 4)]
    assert sum(shares) == pytest.approx(whole, rel=1e-6)
    assert float(layer.batch_loss(np.zeros((6, 2), "float32"))) == 0.0


def test_counts_are_those_of_real_positions_and_masked_content_changes_no_bit():
    whole, x = model(), batch()
    out = whole.predict_on_batch(x)
    # Half of 6, 0, 3, 5, 1, 6 words; 6 patches of which 25 % are kept; half of the spans of 2.
    assert out["words"][:, 1].tolist() == [3, 0, 2, 3, 1, 3]
    assert out["helped_words"][:, 1].tolist() == [1, 0, 1, 1, 1, 1]
    assert out["patches"][:, 1].tolist() == [4, 4, 0, 4, 4, 4]
    assert out["frames"][:, 1].tolist() == [3, 3, 0, 2, 3, 1]
    y = dict(x)
    for name in SPECS:
        mask = x[f"{name}_mask"].reshape(x[f"{name}_mask"].shape + (1,) * 3)
        mask = mask.reshape(mask.shape[: x[name].ndim])
        y[name] = np.where(mask, x[name], 5).astype(x[name].dtype)
    contract.assert_same_bits(whole.predict_on_batch(y), out)
    nothing = {k: np.zeros_like(v) if k.endswith("_mask") else v for k, v in x.items()}
    assert not any(part.any() for part in whole.predict_on_batch(nothing).values())


def test_the_encoder_sees_no_hidden_patch():
    whole, x = model(), batch()
    seen = given(whole, "patches", x)
    assert seen["tokens"].shape == (6, 2, 8)  # a quarter of 6 patches, as a fixed number
    for place in range(6):
        i, j = 8 * (place // 3), 8 * (place % 3) - 2  # 20 pixels are padded to 24 on both sides
        y = {**x, "image": x["image"].copy()}
        y["image"][0, i : i + 8, max(j, 0) : j + 8] ^= 255
        same = np.array_equal(given(whole, "patches", y)["tokens"][0], seen["tokens"][0])
        assert same == seen["hidden"][0, place]


def test_the_encoder_sees_no_hidden_frame():
    whole, x = model(), batch()
    seen = given(whole, "frames", x)
    for span in range(5):
        y = {**x, "track": x["track"].copy()}
        y["track"][0, 2 * span : 2 * span + 2] += 1.0
        same = np.array_equal(given(whole, "frames", y)["tokens"][0], seen["tokens"][0])
        assert same == seen["hidden"][0, span]


def test_sounds_are_hidden_before_their_frames_are_computed():
    spec = {"sound": mk.Audio(rate_hz=1000, seconds=0.4, num_bands=5)}
    encoder = {"name": "speech_transformer", "filters": 2, "hidden_dim": 8, "num_layers": 1}
    objective = MaskedFrames("sound", frames=5, hidden_dim=8, num_heads=2)
    whole = mk.assemble(spec, {"sound": encoder}, heads={"frames": objective})
    rng = np.random.default_rng(0)
    x = {"sound": rng.uniform(-1, 1, (2, 400)), "sound_mask": np.arange(400) < [[400], [120]]}
    x["sound"] = x["sound"].astype("float32")
    seen = given(whole, "frames", x)
    assert seen["hidden"].sum(axis=1).tolist() == [4, 2]  # of 8 and of 3 spans of 50 samples
    assert seen["target"].shape == (2, 8, 25)
    for span in range(8):
        y = {**x, "sound": x["sound"].copy()}
        y["sound"][0, 50 * span : 50 * span + 50] *= -0.5
        same = np.array_equal(given(whole, "frames", y)["tokens"][0], seen["tokens"][0])
        assert same == seen["hidden"][0, span]


def test_only_with_cross_do_other_modalities_help():
    whole, x = model(), batch()
    out = whole.predict_on_batch(x)
    other = whole.predict_on_batch({**x, "track": x["track"] + 1.0})
    for name in ("words", "patches"):
        np.testing.assert_array_equal(other[name], out[name])
        changed = other[f"helped_{name}"][:, 0] != out[f"helped_{name}"][:, 0]
        # Row 2 has no track; row 1 has no word, and row 2 no picture to predict.
        assert changed[[0, 3, 4, 5]].all() and not changed[2]


def test_every_weight_gets_gradient_and_training_draws_anew():
    whole, x = model(), contract.tensors(batch())
    contract.randomize(whole.trainable_variables, scale=0.1)
    objectives = [layer for layer in whole.layers if isinstance(layer, Objective)]
    with tf.GradientTape() as tape:
        out = whole(x, training=True)
        loss = sum(layer.batch_loss(out[layer.name]) for layer in objectives)
    variables = whole.trainable_variables
    found = tape.gradient(loss, [v.value for v in variables])
    size = {
        v.path: 0.0 if g is None else np.abs(contract.as_numpy(tf.convert_to_tensor(g))).max()
        for v, g in zip(variables, found, strict=True)
    }
    assert np.isfinite(list(size.values())).all()
    # Of the fusion's absent tokens only those of modalities that are absent in a row.
    assert [path for path, largest in size.items() if largest == 0.0] == []
    again = whole(x, training=True)
    assert not np.array_equal(again["patches"], out["patches"])


def test_saving_keeps_the_sharing(tmp_path):
    whole, x = model(), batch()
    contract.randomize(whole.trainable_variables, scale=0.1)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    contract.assert_same_bits(loaded.predict_on_batch(x), whole.predict_on_batch(x))
    assert len(loaded.weights) == len(whole.weights)


def test_encoders_are_taken_out_for_finetuning():
    whole, x = model(), batch()
    contract.randomize(whole.trainable_variables, scale=0.1)
    taken = {name: mk.encoders.of(whole, name) for name in SPECS}
    head = {"label": mk.heads.Classifier(("a", "b"))}
    tuned = mk.assemble(SPECS, taken, FUSION, head, hidden_dim=8)
    for name in SPECS:
        own = {key: x[key] for key in (name, f"{name}_mask")}
        expected = mk.encoders.get(ENCODERS[name], name, SPECS[name])
        expected.set_weights(taken[name].get_weights())
        contract.assert_same_bits(taken[name].predict_on_batch(own), expected.predict_on_batch(own))
    before = whole.predict_on_batch(x)
    tuned.compile(keras.optimizers.SGD(0.5), jit=False)
    tuned.train_on_batch(x, {"label": np.arange(6) % 2})
    contract.assert_same_bits(whole.predict_on_batch(x), before)  # copies
    objective = {"patches": MaskedPatches("image", hidden_dim=8)}
    mk.assemble({"image": SPECS["image"]}, {"image": taken["image"]}, heads=objective)
    with pytest.raises(ValueError, match="must have an encoder of 'sound'. It has .*'image'"):
        mk.encoders.of(whole, "sound")


def test_words_that_follow_a_rule_are_learnt():
    spec = SPECS["text"]
    bert = mk.models.bert_like(spec, hidden_dim=32, num_layers=1, num_heads=2, dropout=0.0)
    rng = np.random.default_rng(0)
    x = {"text": np.repeat(rng.integers(3, 11, (256, 1)), 6, axis=1).astype("int32")}
    x["text_mask"] = np.ones((256, 6), bool)
    bert.compile(keras.optimizers.Adam(5e-3), jit=False)
    losses = [bert.train_on_batch(x, {}, return_dict=True)["words_loss"] for _ in range(40)]
    assert losses[0] > 2.0 and bert.test_on_batch(x, {}, return_dict=True)["loss"] < 0.6


def test_a_resumed_run_masks_as_an_uninterrupted_one(tmp_path):
    def run(folder, epochs):
        keras.utils.set_random_seed(3)
        x = {key: value for key, value in batch().items() if key.startswith("text")}
        rows = tf.data.Dataset.from_tensor_slices((x, {})).batch(3)
        sizes = {"hidden_dim": 8, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
        bert = mk.models.bert_like(SPECS["text"], rate=0.5, **sizes)
        bert.compile("adam", jit=False)
        resume = mk.training.Resume(folder, every_steps=2, delete=False)
        bert.fit(rows, epochs=epochs, verbose=0, callbacks=[resume])
        return bert.get_weights()

    whole, first = run(tmp_path / "whole", 2), run(tmp_path / "cut", 1)
    resumed = run(tmp_path / "cut", 2)
    contract.assert_same_bits(resumed, whole)
    assert not np.array_equal(first[0], whole[0])


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (
            MaskedText("texts"),
            r"Unknown modality 'texts' in an objective\. Known: .*Did you mean 'text'",
        ),
        (MaskedText("image"), "of the kind text that has an encoder"),
        (MaskedPatches("text"), "of the kind image that has an encoder"),
        (MaskedFrames("image"), "audio or series or vector"),
    ],
)
def test_wrong_modalities(head, says):
    with pytest.raises(ValueError, match=says):
        mk.assemble(SPECS, ENCODERS, FUSION, {"head": head})


def test_wrong_parts():
    plain = {**SPECS, "text": mk.Text(length=6, vocabulary=("[PAD]", "[UNK]", "a"))}
    with pytest.raises(ValueError, match=r"must have '\[MASK\]'.*mask_token=True"):
        mk.assemble(plain, ENCODERS, FUSION, {"head": MaskedText("text")})
    with pytest.raises(ValueError, match="must return a token per word"):
        mk.assemble(SPECS, {**ENCODERS, "text": "bow"}, FUSION, {"head": MaskedText("text")})
    with pytest.raises(ValueError, match="must be a vision transformer.*'image': 'vit'"):
        mk.assemble(SPECS, {**ENCODERS, "image": "cnn"}, FUSION, {"head": MaskedPatches("image")})
    with pytest.raises(ValueError, match="needs one that reads tokens. Received: .*'pooled'"):
        pooled = {"name": "concatenation", "level": "pooled"}
        mk.assemble(SPECS, ENCODERS, pooled, {"head": MaskedText("text", cross=True)})


@pytest.mark.parametrize("head", heads().values(), ids=heads())
def test_config_round_trip(head):
    config = head.get_config()
    assert type(head).from_config(config).get_config() == config


def test_objectives_run_on_jax_and_count_the_same(tmp_path):
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    done = subprocess.run(
        [sys.executable, "-m", "tests.objectives.jax_masked", str(tmp_path / "found.npz")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": quick},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = jax_masked.outputs()
    with np.load(tmp_path / "found.npz") as found:
        assert set(found) == set(expected)
        for name, out in expected.items():
            assert np.isfinite(found[name]).all(), name
            np.testing.assert_array_equal(found[name][:, 1], out[:, 1], err_msg=name)
