"""Every encoder of `ENCODERS`, of every kind, under the contract."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras import encoders
from mmkeras.encoders import ENCODERS
from tests import contract
from tests.encoders.inputs import (
    SMALL,
    SPECS,
    VOCABULARY,
    garbage,
    random_batch,
    refill,
    spec_of,
)

NAME = "left"
SMALL_LSTM = {"name": "lstm", "embedding_dim": 5, "hidden_dim": 6}
CASES = {
    f"{kind}-{name}": (kind, name, spec_of(kind, name), SMALL.get((kind, name), {}))
    for kind, table in ENCODERS.items()
    for name in table
}
CASES["text-bert"] = (
    "text",
    "transformer",
    SPECS["text"].replace(vocabulary=(*VOCABULARY[:2], "[SEP]", *VOCABULARY[2:]), segments=2),
    {**SMALL["text", "transformer"], "normalize_first": False},
)
CASES["image-resnet50"] = (
    "image",
    "resnet",
    SPECS["image"],
    {"filters": (4, 8), "depths": (1, 1), "bottleneck": True, "stem_pool": True},
)
CASES["audio-mfcc"] = (
    "audio",
    "cnn",
    SPECS["audio"].replace(
        features="mfcc", num_coefficients=5, augment={"spec_augment": {"time_width": 3}}
    ),
    {"filters": (8,), "dropout": 0.25},
)
CASES["image-grey"] = ("image", "cnn", mk.Image(size=(9, 11), channels=1), {"filters": (8, 4, 8)})
CASES["vector-mlp-steps"] = ("vector", "mlp", spec_of("vector", "lstm"), {"hidden_dim": 6})
CASES["table-ft_transformer-categories"] = (
    "table",
    "ft_transformer",
    mk.Table(categorical=("a", "b"), vocabularies=(("x",), ("u", "v"))),
    {"hidden_dim": 8, "num_layers": 1, "num_heads": 2},
)
CASES["series-tcn-pool"] = (
    "series", "tcn", SPECS["series"], {"filters": (6,), "pool": 4, "dropout": 0.5}
)  # fmt: skip
CASES["series-bilstm"] = (
    "series",
    "lstm",
    SPECS["series"],
    {"hidden_dim": 3, "bidirectional": True, "pool": 2},
)
CASES["several-text"] = (
    "several", "shared", mk.Several(SPECS["text"], 2), {"encoder": SMALL_LSTM}
)  # fmt: skip
CASES["video-bilstm"] = (
    "video", "frames_lstm", SPECS["video"], {**SMALL["video", "frames_lstm"], "bidirectional": True}
)  # fmt: skip
every_encoder = pytest.mark.parametrize("case", CASES)


@contract.made_once
def built(case, randomized):
    """An encoder, with random weights if wished."""
    _, encoder, modality, arguments = CASES[case]
    model = encoders.get({"name": encoder, **arguments}, NAME, modality)
    if randomized:
        contract.randomize(model.trainable_variables, scale=0.1)
    return model


def build(case, randomized=True):
    """An encoder with random weights, its spec."""
    return built(case, randomized), CASES[case][2]


def call(model, batch):
    return contract.as_numpy(model(contract.tensors(batch)))


def test_every_kind_has_a_spec_and_an_encoder():
    assert set(ENCODERS) == set(SPECS) == set(mk.core.modalities.KINDS)
    assert all(ENCODERS.values())


@every_encoder
def test_shapes_and_mask(case):
    model, modality = build(case)
    batch = random_batch(NAME, modality)
    out = call(model, batch)
    assert set(model.input) == {NAME, f"{NAME}_mask"}
    assert tuple(model.input[NAME].shape) == (None, *modality.shape)
    assert model.input[NAME].dtype == modality.dtype
    assert tuple(model.input[f"{NAME}_mask"].shape) == (None, *modality.mask_shape)
    assert set(out) == {"tokens", "mask"}
    rows, length, width = out["tokens"].shape
    assert rows == 5
    assert tuple(model.output["tokens"].shape) == (None, length, width)
    assert tuple(model.output["mask"].shape) == (None, length)
    assert (out["tokens"].dtype, out["mask"].dtype) == ("float32", bool)
    assert out["mask"].shape == (rows, length)
    assert np.isfinite(out["tokens"]).all()
    assert np.all(out["tokens"][~out["mask"]] == 0.0)
    assert np.all(np.any(out["tokens"][out["mask"]] != 0.0, axis=-1))
    given = batch[f"{NAME}_mask"].reshape(rows, -1).any(axis=1)
    assert np.array_equal(out["mask"].any(axis=1), given)


@every_encoder
def test_content_behind_a_false_mask_changes_no_bit(case):
    model, modality = build(case)
    batch = random_batch(NAME, modality)
    expected = contract.gradients(lambda: model(contract.tensors(batch)), model.trainable_variables)
    for value in garbage(modality):
        filled = contract.tensors(refill(batch, NAME, value))
        found = contract.gradients(lambda f=filled: model(f), model.trainable_variables)
        contract.assert_same_bits(found[0], expected[0])
        contract.assert_same_bits(found[1], expected[1])


@every_encoder
def test_content_in_front_of_the_mask_counts(case):
    model, modality = build(case)
    one, other = (random_batch(NAME, modality, seed=seed) for seed in (0, 1))
    assert not np.allclose(
        call(model, one)["tokens"][0], call(model, other)["tokens"][0], atol=1e-3
    )


@every_encoder
def test_all_absent_is_finite(case):
    model, modality = build(case)
    batch = random_batch(NAME, modality)
    batch[f"{NAME}_mask"][:] = False
    for value in garbage(modality):
        out, found = contract.gradients(
            lambda v=value: model(contract.tensors(refill(batch, NAME, v))),
            model.trainable_variables,
        )
        assert not contract.as_numpy(out["mask"]).any()
        assert np.all(contract.as_numpy(out["tokens"]) == 0.0)
        assert all(np.isfinite(g).all() for g in found.values())


@every_encoder
def test_samples_do_not_see_each_other(case):
    model, modality = build(case)
    batch, other = (random_batch(NAME, modality, seed=seed) for seed in (0, 1))
    expected = call(model, batch)
    for row in range(5):
        alone = call(model, {k: v[row : row + 1] for k, v in batch.items()})
        mixed = {k: v.copy() for k, v in other.items()}
        for key in mixed:
            mixed[key][row] = batch[key][row]
        for found in (alone, {k: v[row : row + 1] for k, v in call(model, mixed).items()}):
            # Convolutions sum in another order for another batch: up to 1.2e-5 of values near 4.
            contract.assert_close(found, {k: v[row : row + 1] for k, v in expected.items()}, 3e-5)


@every_encoder
def test_every_weight_gets_gradient(case):
    model, modality = build(case)
    batch = contract.tensors(random_batch(NAME, modality))
    _, found = contract.gradients(lambda: model(batch), model.trainable_variables)
    contract.assert_all_train(found)


@every_encoder
def test_weights_carry_the_modality(case):
    model, modality = build(case)
    paths = [v.path for v in model.weights]
    assert paths
    assert len(set(paths)) == len(paths)
    assert [p for p in paths if not p.startswith(f"{NAME}_")] == []
    assert [layer.name for layer in model.layers if not layer.name.startswith(NAME)] == []


@pytest.mark.parametrize("kind", ENCODERS)
def test_two_modalities_of_one_kind_share_no_path(kind):
    for name in ENCODERS[kind]:
        specs = dict.fromkeys(("left", "right"), spec_of(kind, name))
        encoder = {"name": name, **SMALL.get((kind, name), {})}
        model = mk.assemble(
            specs,
            dict.fromkeys(specs, encoder),
            fusion="concatenation",
            heads={"kind": mk.heads.Classifier(2)},
            hidden_dim=4,
        )
        paths = [v.path for v in model.weights]
        assert len(set(paths)) == len(paths)
        for side in specs:
            assert any(p.startswith(f"{side}_") for p in paths)


@every_encoder
def test_keras_file(case, tmp_path):
    model, modality = build(case)
    model.save(tmp_path / "encoder.keras")
    loaded = keras.models.load_model(tmp_path / "encoder.keras")
    contract.assert_same_bits(loaded.get_weights(), model.get_weights())
    batch = contract.tensors(random_batch(NAME, modality))
    contract.assert_same_bits(loaded(batch), model(batch))
    assert json.loads(loaded.to_json()) == json.loads(model.to_json())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_encoder
def test_mixed_precision(case, policy):
    plain, modality = build(case, randomized=False)
    keras.mixed_precision.set_global_policy(policy)
    model, _ = build(case, randomized=False)
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.set_weights([v.numpy() for v in plain.weights])
    batch = random_batch(NAME, modality)
    out = model(contract.tensors(batch))
    assert out["tokens"].dtype == keras.DTypePolicy(policy).compute_dtype
    assert model.output["tokens"].dtype == out["tokens"].dtype
    contract.assert_close(out, call(plain, batch), 0.15)
    for value in garbage(modality):
        contract.assert_same_bits(model(contract.tensors(refill(batch, NAME, value))), out)


@every_encoder
def test_xla_agrees(case):
    model, modality = build(case)
    compiled = tf.function(lambda b: model(b), jit_compile=True, autograph=False)
    batch = random_batch(NAME, modality)
    out = compiled(contract.tensors(batch))
    contract.assert_close(out, call(model, batch), 2e-5)  # measured: 4e-6
    for value in garbage(modality):
        filled = contract.tensors(refill(batch, NAME, value))
        contract.assert_same_bits(compiled(filled), out)


@every_encoder
def test_augmentation_and_dropout_only_in_training(case):
    model, modality = build(case)
    batch = contract.tensors(random_batch(NAME, modality))
    contract.assert_same_bits(model(batch), model(batch, training=False))
    acts = case in ("audio-mfcc", "series-tcn-pool")
    first, second = (contract.as_numpy(model(batch, training=True)["tokens"]) for _ in range(2))
    assert np.array_equal(first, second) != acts


# Text: more padding changes nothing -------------------------------------------------------------


def lengthened(case, more):
    """The same encoder with the same weights over a text that is `more` tokens longer."""
    _, encoder, modality, arguments = CASES[case]
    model, _ = build(case)
    longer = modality.replace(length=modality.length + more)
    other = encoders.get({"name": encoder, **arguments}, NAME, longer)
    for variable, old in zip(other.weights, model.weights, strict=True):
        assert variable.path == old.path
        value = variable.numpy()
        value[: old.shape[0]] = old.numpy()
        variable.assign(value)
    return model, other


@pytest.mark.parametrize("more", [1, 5])
@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("text-")])
def test_padding_invariance(case, more):
    model, longer = lengthened(case, more)
    short = random_batch(NAME, SPECS["text"])
    pad = ((0, 0), (0, more))
    long = {
        NAME: np.pad(short[NAME], pad, constant_values=5),
        f"{NAME}_mask": np.pad(short[f"{NAME}_mask"], pad),
    }
    expected, found = call(model, short), call(longer, long)
    length = expected["mask"].shape[1]  # shorter where the encoder pools
    assert not found["mask"][:, length:].any()
    assert np.all(found["tokens"][:, length:] == 0.0)
    contract.assert_close({k: v[:, :length] for k, v in found.items()}, expected, 1e-5)


@pytest.mark.parametrize("name", [n for n in ENCODERS["audio"] if n != "cnn"])
def test_a_longer_spec_changes_no_token_of_a_sound(name):
    """Statistics are over real steps, and windows begin where they did; Keras' norm counts all."""
    short, long = SPECS["audio"], SPECS["audio"].replace(seconds=0.551)
    arguments = {"name": name, **SMALL["audio", name]}
    model, longer = (encoders.get(arguments, NAME, spec) for spec in (short, long))
    contract.randomize(model.trainable_variables, scale=0.1)
    for variable, old in zip(longer.weights, model.weights, strict=True):
        value = variable.numpy()
        value[: old.shape[0]] = old.numpy()
        variable.assign(value)
    mask = np.arange(short.num_samples) < np.array([[250], [91], [0]])
    wave = np.random.default_rng(0).uniform(-1, 1, mask.shape).astype("float32")
    pad = ((0, 0), (0, long.num_samples - short.num_samples))
    expected = call(model, {NAME: wave, f"{NAME}_mask": mask})
    found = call(longer, {NAME: np.pad(wave, pad), f"{NAME}_mask": np.pad(mask, pad)})
    length = expected["mask"].shape[1]
    assert not found["mask"][:, length:].any() and found["mask"].shape[1] > length
    contract.assert_close({k: v[:, :length] for k, v in found.items()}, expected, 2e-5)


def test_gru_against_numpy():
    """Gate order z r h; the reset gate acts after the product with the state."""
    model, modality = build("text-gru")
    batch = random_batch(NAME, modality)
    w = {v.path.split("/")[-1]: v.numpy().astype("float64") for v in model.weights}
    units = w["recurrent_kernel"].shape[0]
    expected = np.zeros((5, modality.length, units))
    for row, t in itertools.product(range(5), range(modality.length)):
        if t == 0:
            h = np.zeros(units)
        if batch[f"{NAME}_mask"][row, t]:
            x = w["embeddings"][batch[NAME][row, t]] @ w["kernel"] + w["bias"][0]
            state = h @ w["recurrent_kernel"] + w["bias"][1]
            (xz, xr, xh), (hz, hr, hh) = np.split(x, 3), np.split(state, 3)
            z, r = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
            h = z * h + (1 - z) * np.tanh(xh + r * hh)
            expected[row, t] = h
    np.testing.assert_allclose(call(model, batch)["tokens"], expected, atol=5e-6)


def test_the_backward_half_reads_real_tokens_alone():
    """At the first token it has read all, whatever holes and padding the mask has."""
    model, modality = build("text-bilstm")
    ids = np.array([[2, 3, 4, 5, 6, 7], [2, 4, 7, 9, 9, 9]], "int32")
    mask = np.array([[1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 0, 0]], bool)
    tokens = call(model, {NAME: ids, f"{NAME}_mask": mask})["tokens"]
    np.testing.assert_allclose(tokens[0, mask[0]], tokens[1, mask[1]], atol=1e-6)


def test_bag_of_words_is_the_mean_of_real_words():
    model, modality = build("text-bow")
    batch = random_batch(NAME, modality)
    table = model.get_layer(f"{NAME}_embedding").get_weights()[0].astype("float64")
    for row, (ids, mask) in enumerate(zip(*batch.values(), strict=True)):
        if not mask.any():
            continue
        expected = table[ids[mask]].mean(axis=0)
        for i in range(2):
            kernel, bias = model.get_layer(f"{NAME}_dense{i}").get_weights()
            expected = np.maximum(expected @ kernel + bias, 0.0)
        found = call(model, {k: v[row : row + 1] for k, v in batch.items()})["tokens"][0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_segments_are_counted_by_their_separators():
    ids = np.array([[3, 2, 3, 2, 3, 2], [3, 3, 3, 0, 0, 0], [2, 2, 2, 3, 3, 3]], "int32")
    layer = encoders.base.SegmentIds(3, 2)
    expected = [[0, 0, 1, 1, 2, 2], [0] * 6, [0, 1, 2, 2, 2, 2]]
    assert layer(ids).numpy().tolist() == expected


def test_lstm_against_numpy():
    """One direction, gate order i f c o, states kept at masked steps."""
    model, modality = build("text-lstm")
    batch = random_batch(NAME, modality)
    w = {v.path.split("/")[-1]: v.numpy().astype("float64") for v in model.weights}
    units = w["recurrent_kernel"].shape[0]
    expected = np.zeros((5, modality.length, units))
    for row, t in itertools.product(range(5), range(modality.length)):
        if t == 0:
            h, c = np.zeros(units), np.zeros(units)
        if batch[f"{NAME}_mask"][row, t]:
            x = w["embeddings"][batch[NAME][row, t]]
            i, f, g, o = np.split(x @ w["kernel"] + h @ w["recurrent_kernel"] + w["bias"], 4)
            i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
            c = f * c + i * np.tanh(g)
            h = o * np.tanh(c)
            expected[row, t] = h
    np.testing.assert_allclose(call(model, batch)["tokens"], expected, atol=5e-6)  # 4e-7


def test_audio_tokens_of_the_docstring():
    """T = F / 2^n rounded up, F = 1 + S // hop."""
    modality = SPECS["audio"]
    frames = 1 + modality.num_samples // 10
    for stages in (1, 2, 3):
        model = encoders.audio_cnn(NAME, modality, filters=(8,) * stages)
        assert model.output["tokens"].shape[1] == -(-frames // 2**stages)


def test_image_tokens_of_the_docstring():
    """T = H / 2^n * W / 2^n, each rounded up."""
    for size, stages in (((16, 16), 4), ((17, 9), 2), ((8, 15), 3)):
        model = encoders.image_cnn(NAME, mk.Image(size=size), filters=(8,) * stages)
        high, wide = (-(-side // 2**stages) for side in size)
        assert model.output["tokens"].shape[1] == high * wide


def test_lstm_never_uses_cudnn():
    for bidirectional in (False, True):
        model = encoders.text_lstm(NAME, SPECS["text"], bidirectional=bidirectional)
        layers = [x for x in model._flatten_layers() if isinstance(x, keras.layers.LSTM)]
        assert len(layers) == 1 + bidirectional
        assert not any(layer.use_cudnn for layer in layers)


def test_vocabulary_is_the_size_of_the_embedding():
    model = encoders.text_transformer(NAME, SPECS["text"], num_layers=1)
    table = next(v for v in model.weights if v.path.endswith("embeddings"))
    assert table.shape[0] == len(VOCABULARY)
