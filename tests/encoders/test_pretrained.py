"""Borrowed backbones under the contract of encoders, with their tokenizers and pixels."""

import functools
import io
import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.layers import NormalizePixels
from tests import contract
from tests.encoders.inputs import garbage, random_batch, refill

NAME = "left"
PIECES = ["[PAD]", "odd", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "red", "circle", "##s", "two"]


def bert(**kwargs):
    sizes = dict(num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=12)
    return keras_hub.models.BertBackbone(
        **{**dict(vocabulary_size=11, max_sequence_length=9, dropout=0.0), **sizes, **kwargs}
    )


def resnet():
    """Two stages of the ResNet of keras-hub, with batch normalisation."""
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )


def mobilenet():
    return keras.applications.MobileNetV2(
        alpha=0.35, include_top=False, weights=None, input_shape=(32, 32, 3)
    )


@functools.cache
def tokenizer():
    return keras_hub.models.BertTokenizer(vocabulary=PIECES, lowercase=True)


def source(case):
    if case == "bert":
        return mk.encoders.pretrained(bert(), tokenizer=tokenizer()), {"length": 6}
    if case == "resnet":
        return mk.encoders.pretrained(resnet(), pixels="tf"), {}
    if case == "levels":
        return mk.encoders.pretrained(resnet(), pixels="torch", levels=("P2", "P3")), {}
    if case == "keras_cv":
        import keras_cv

        backbone = keras_cv.models.CSPDarkNetBackbone(
            stackwise_channels=[8, 8],
            stackwise_depth=[1, 1],
            include_rescaling=True,
            input_shape=(32, 32, 3),
        )
        return mk.encoders.pretrained(backbone), {}
    return mk.encoders.pretrained(mobilenet()), {}


every_case = pytest.mark.parametrize("case", ["bert", "resnet", "levels", "mobilenet", "keras_cv"])


def build(case, name=NAME):
    """The encoder with statistics and weights that are not those of a fresh one, and its spec."""
    borrowed, fields = source(case)
    modality = borrowed.modality(**fields)
    model = mk.encoders.get(borrowed, name, modality)
    contract.randomize(model.trainable_variables, scale=0.05)
    return model, modality


def call(model, batch, **kwargs):
    return contract.as_numpy(model(contract.tensors(batch), **kwargs))


# The contract -----------------------------------------------------------------------------------


@every_case
def test_contract(case, tmp_path):
    model, modality = build(case)
    batch = random_batch(NAME, modality)
    out, grads = contract.gradients(
        lambda: model(contract.tensors(batch)), model.trainable_variables
    )
    plain = contract.as_numpy({key: out[key] for key in ("tokens", "mask")})
    assert ("levels" in out) == (case == "levels")
    assert set(model.input) == {NAME, f"{NAME}_mask"}
    assert tuple(model.output["tokens"].shape) == (None, *plain["tokens"].shape[1:])
    assert plain["mask"].shape == plain["tokens"].shape[:2]
    assert np.isfinite(plain["tokens"]).all() and not plain["tokens"][~plain["mask"]].any()
    assert np.array_equal(
        plain["mask"].any(axis=1), batch[f"{NAME}_mask"].reshape(5, -1).any(axis=1)
    )
    # Weights: named after the modality, each trains.
    paths = [v.path for v in model.weights]
    assert len(set(paths)) == len(paths) and all(p.startswith(f"{NAME}_") for p in paths)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert [k for k, v in grads.items() if not np.any(v) and not k.endswith("key/bias")] == []
    # Content behind a false mask changes no bit, of outputs and gradients.
    for value in garbage(modality):
        filled = contract.tensors(refill(batch, NAME, value))
        found = contract.gradients(lambda f=filled: model(f), model.trainable_variables)
        contract.assert_same_bits(found[0], out)
        contract.assert_same_bits(found[1], grads)
    # Training mode changes nothing (batch statistics are never taken), nor do other samples.
    before = model.get_weights()
    trained = call(model, batch, training=True)
    contract.assert_close(trained, contract.as_numpy(out), 0.0 if case != "bert" else 1e-6)
    contract.assert_same_bits(model.get_weights(), before)
    alone = call(model, {k: v[:1] for k, v in batch.items()}, training=True)
    contract.assert_close(alone["tokens"], plain["tokens"][:1], 3e-5)
    # The file needs no custom code.
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    if case != "keras_cv":  # whose layers are numbered anew in every model
        assert [v.path for v in loaded.weights] == paths
    contract.assert_same_bits(loaded(contract.tensors(batch)), out)


@pytest.mark.parametrize("case", ["keras_cv", "mobilenet"])
def test_the_features_are_those_of_the_backbone(case):
    borrowed, _ = source(case)
    contract.randomize(borrowed.backbone.weights, scale=0.02)
    modality = borrowed.modality()
    batch = random_batch(NAME, modality)
    batch[f"{NAME}_mask"][:] = True
    pixels = batch[NAME].astype("float32")
    pixels = pixels if case == "keras_cv" else pixels / 127.5 - 1
    expected = contract.as_numpy(borrowed.backbone(pixels, training=False))
    found = call(borrowed(NAME, modality), batch)["tokens"]
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-5)


def test_the_tokens_are_those_of_the_backbone(rng):
    backbone = bert()
    contract.randomize(backbone.weights)
    borrowed = mk.encoders.pretrained(backbone, tokenizer=tokenizer())
    model = borrowed("text", borrowed.modality(length=6))
    ids = rng.integers(0, 11, (3, 6)).astype("int32")
    mask = np.arange(6) < np.array([[6], [4], [1]])
    given = {
        "token_ids": ids * mask,
        "padding_mask": mask.astype("int32"),
        "segment_ids": np.zeros_like(ids),
    }
    expected = contract.as_numpy(backbone(given))["sequence_output"]
    found = call(model, {"text": ids, "text_mask": mask})["tokens"]
    np.testing.assert_array_equal(found, expected * mask[..., None])
    assert not any("pooled" in v.path for v in model.weights)  # it never gets a gradient


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    plain, modality = build("bert")
    keras.mixed_precision.set_global_policy(policy)
    model, _ = build("bert")
    model.set_weights(plain.get_weights())
    batch = random_batch(NAME, modality)
    out = model(contract.tensors(batch))
    assert keras.backend.standardize_dtype(out["tokens"].dtype) == policy[6:]
    contract.assert_close(out, call(plain, batch), 0.15)


def test_xla_agrees():
    for case in ("bert", "resnet"):
        model, modality = build(case)
        batch = contract.tensors(random_batch(NAME, modality))
        compiled = tf.function(lambda b, m=model: m(b), jit_compile=True, autograph=False)
        contract.assert_close(compiled(batch), model(batch), 2e-5)


# Pixels -----------------------------------------------------------------------------------------

MODULES = {
    "resnet50": keras.applications.resnet50,
    "vgg16": keras.applications.vgg16,
    "resnet50v2": keras.applications.resnet_v2,
    "inception_v3": keras.applications.inception_v3,
    "inception_resnet_v2": keras.applications.inception_resnet_v2,
    "xception": keras.applications.xception,
    "mobilenet_1.00_224": keras.applications.mobilenet,
    "mobilenetv2_1.00_224": keras.applications.mobilenet_v2,
    "nasnet_mobile": keras.applications.nasnet,
    "densenet121": keras.applications.densenet,
}


@pytest.mark.parametrize("family", MODULES)
def test_pixels_are_scaled_as_the_family_does(family, rng):
    picture = rng.integers(0, 256, (2, 4, 3, 3)).astype("uint8")
    inputs = keras.Input((4, 3, 3))
    backbone = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs), name=family)
    borrowed = mk.encoders.pretrained(backbone)
    model = borrowed("photo", borrowed.modality())
    layer = model.get_layer("photo_scale")
    expected = MODULES[family].preprocess_input(picture.astype("float32"))
    np.testing.assert_allclose(layer(picture), expected, atol=2e-5)
    again = NormalizePixels.from_config(layer.get_config())
    np.testing.assert_array_equal(again(picture), layer(picture))


def test_functions_of_keras_applications():
    sizes = {"EfficientNetB0": (1, 1280), "ResNet50": (1, 2048)}
    for function, (count, width) in sizes.items():
        borrowed = mk.encoders.pretrained(getattr(keras.applications, function), load_weights=False)
        assert borrowed.modality() == mk.Image(size=224, resize="bilinear")
        model = borrowed("photo", borrowed.modality(size=32))
        assert tuple(model.output["tokens"].shape) == (None, count, width)
        raw = model.get_layer("photo_scale").get_config()
        assert (raw["scale"], raw["reverse"]) == (1.0, function == "ResNet50")


# Tokenizers -------------------------------------------------------------------------------------


def test_word_pieces_stand_between_start_and_end():
    modality = mk.encoders.pretrained(bert(), tokenizer=tokenizer()).modality(length=6)
    ids, mask = mk.data.decoder(modality)(
        tf.constant(["Two RED circles", "the the the the the", ""])
    )
    assert ids.numpy().tolist() == [[3, 10, 7, 8, 9, 4], [3, 6, 6, 6, 6, 4], [0] * 6]
    assert mask.numpy().tolist() == [[True] * 6, [True] * 6, [False] * 6]
    text = mk.core.to_json({"t": modality})
    assert mk.core.from_json(text)["t"] == modality
    assert json.loads(text)["modalities"]["t"]["vocabulary"] == PIECES


def byte_pairs():
    words = ["<s>", "<pad>", "</s>", "<mask>", "t", "h", "e", "th", "the", "Ġ", "Ġr", "r", "d"]
    return keras_hub.models.RobertaTokenizer(
        vocabulary={w: i for i, w in enumerate(words)}, merges=["t h", "th e", "Ġ r"]
    )


def sentence_pieces():
    import sentencepiece

    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the red circle", "a blue square"] * 5),
        model_writer=proto,
        vocab_size=21,
        minloglevel=2,
        **{"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
        **{"pad_piece": "<pad>", "bos_piece": "[CLS]", "eos_piece": "[SEP]"},
        user_defined_symbols="[MASK]",
    )
    return keras_hub.models.AlbertTokenizer(proto=proto.getvalue())


@pytest.mark.parametrize(
    ("make", "start", "end"), [(byte_pairs, 0, 2), (sentence_pieces, 2, 3)], ids=["bpe", "sp"]
)
def test_other_tokenizers_survive_the_spec(make, start, end):
    pieces = make()
    modality = mk.Text(length=30, **mk.encoders.presets.describe(pieces))
    modality = mk.core.from_json(mk.core.to_json({"t": modality}))["t"]
    ids, mask = mk.data.decoder(modality)(tf.constant(["the red"]))
    own = [int(i) for i in pieces(tf.constant(["the red"]))[0]]
    assert ids.numpy()[0, : mask.numpy().sum()].tolist() == [start, *own, end]
    assert len(own) > 1 and mask.numpy().sum() == len(own) + 2


# Presets ----------------------------------------------------------------------------------------


def preset(folder):
    backbone = bert()
    contract.randomize(backbone.weights)
    backbone.save_to_preset(folder)
    tokenizer().save_to_preset(folder)
    return backbone


def test_a_local_preset_is_trained_and_served(tmp_path):
    backbone = preset(str(tmp_path / "bert"))
    borrowed = mk.encoders.pretrained(tmp_path / "bert")
    np.testing.assert_array_equal(borrowed.backbone.get_weights()[0], backbone.get_weights()[0])
    rows = {
        "text": ["two red circles", "the circle", "red red", "two", None, "the red"],
        "kind": ["a", "b", "a", "b", "a", "b"],
    }
    data = mk.data.table(rows, {"text": borrowed.modality(length=7)}, "kind")
    assert data.modalities["text"] == borrowed.modality(length=7)
    heads = {"kind": mk.heads.Classifier(data.classes)}
    model = mk.assemble(data.modalities, {"text": borrowed}, "concatenation", heads, hidden_dim=8)
    model.compile("adamw", jit=False)
    model.fit(data.train(3), epochs=1, verbose=0)
    mk.export.saved_model(model, data.modalities, tmp_path / "1", signatures=("serving_default",))
    report = mk.export.check_parity(
        model, data.modalities, tmp_path / "1", data.raw("train", range(6))
    )
    assert report
    model.save(tmp_path / "m.keras")
    batch = next(iter(data.train(3)))[0]
    contract.assert_same_bits(keras.models.load_model(tmp_path / "m.keras")(batch), model(batch))
    random = mk.encoders.pretrained(tmp_path / "bert", load_weights=False)
    assert not np.array_equal(random.backbone.get_weights()[0], backbone.get_weights()[0])


def test_a_preset_of_pictures_brings_its_scaling_and_size(tmp_path, rng):
    folder = str(tmp_path / "resnet")
    resnet().save_to_preset(folder)
    converter = keras_hub.layers.ImageConverter(
        image_size=(32, 32), scale=[1 / 50, 1 / 60, 1 / 70], offset=[-2.0, -1.0, 0.5]
    )
    keras_hub.models.ResNetImageClassifierPreprocessor(converter).save_to_preset(folder)
    borrowed = mk.encoders.pretrained(folder)
    assert borrowed.modality() == mk.Image(size=32, resize="bilinear", fit="crop")
    scale = borrowed("photo", borrowed.modality()).get_layer("photo_scale")
    picture = rng.integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    expected = keras.ops.convert_to_numpy(converter(picture.astype("float32")))
    np.testing.assert_allclose(scale(picture), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["no/such/folder", "bert_bse_en"])
def test_a_preset_that_is_not_there(name):
    with pytest.raises(
        ValueError, match=f"must be there to be loaded. Received: the preset '{name}"
    ):
        mk.encoders.pretrained(name)


def test_a_folder_that_is_no_preset(tmp_path):
    with pytest.raises(ValueError, match=r"Give the folder of a local preset \(`backbone.save_to"):
        mk.encoders.pretrained(tmp_path)


# Errors -----------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused():
    text = mk.encoders.pretrained(bert(), tokenizer=tokenizer())
    picture = mk.encoders.pretrained(resnet())
    with pytest.raises(ValueError, match="reads text modalities. Received: a modality of kind 'im"):
        text("x", mk.Image(size=32))
    with pytest.raises(
        ValueError, match=r"'x' takes pictures of \(32, 32\) in 3 channels.*\(16, 16"
    ):
        picture("x", mk.Image(size=16))
    with pytest.raises(ValueError, match="wants its pixels must be said.*'caffe'.*'raw'"):
        picture("x", mk.Image(size=32))
    with pytest.raises(ValueError, match="`pixels` must be one of"):
        mk.encoders.pretrained(resnet(), pixels="tff")("x", mk.Image(size=32))
    with pytest.raises(ValueError, match="reads at most 9 tokens. Received: length=12"):
        text("x", text.modality(length=12))
    with pytest.raises(ValueError, match="Received: 12 tokens, the backbone knows 11"):
        text("x", mk.Text(length=6, vocabulary=("[PAD]", "[UNK]", *"abcdefghij")))
    with pytest.raises(ValueError, match="needs its tokenizer to make a modality"):
        mk.encoders.pretrained(bert()).modality()
    with pytest.raises(TypeError, match="must be a keras.Model, a function of keras.applications"):
        mk.encoders.pretrained(3)
    with pytest.raises(ValueError, match="Received: 'P9'.*Known:.*P2"):
        mk.encoders.pretrained(resnet(), pixels="tf", levels=("P9",))("x", mk.Image(size=32))
    with pytest.raises(ValueError, match="needs its description and its vocabulary"):
        mk.Text(tokenizer={"config": {}})
