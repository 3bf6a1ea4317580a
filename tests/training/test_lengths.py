"""Training on batches of several lengths: the same numbers as padded, one trace per length."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.encoders import base
from mmkeras.training import jit as jit_measure
from mmkeras.training import lengths
from tests.core.errors import says

VOCABULARY = ("[PAD]", "[UNK]", "[SEP]", *(f"w{i}" for i in range(20)))
TEXT = mk.Text(length=24, vocabulary=VOCABULARY)
SPECS = {
    "text": TEXT,
    "parts": mk.Text(length=24, vocabulary=VOCABULARY, segments=2),
    "steps": mk.Vector(size=2, steps=24, normalize=False),
    "series": mk.Series(steps=24, channels=2, normalize=False),
}
NUMBERS = mk.Vector(size=3, normalize=False)
PLAIN = {"dropout": 0.0}
CASES = [
    ("text", {"name": "bow"}, "concatenation"),
    ("text", {"name": "lstm"}, "late_transformer"),
    ("text", {"name": "bilstm"}, "film"),
    ("text", {"name": "gru"}, "gated"),
    ("text", {"name": "transformer", **PLAIN}, "late_transformer"),
    ("parts", {"name": "transformer", "normalize_first": False, **PLAIN}, "concatenation"),
    ("text", {"name": "char_cnn"}, "late_transformer"),
    ("text", {"name": "char_cnn", "pools": (3, 2, 1)}, "cross_attention"),
    ("steps", {"name": "mlp"}, "late_transformer"),
    ("steps", {"name": "lstm", "pool": 5}, "weighted_sum"),
    ("steps", {"name": "transformer"}, "concatenation"),
    ("series", {"name": "tcn", "pool": 4}, "late_transformer"),
    ("text", {"name": "lstm"}, "early_transformer"),
]


def build(kind="text", encoder="bow", fusion="concatenation", **compiled):
    keras.utils.set_random_seed(4)
    model = mk.assemble(
        {"given": SPECS[kind], "numbers": NUMBERS},
        {"given": encoder},
        fusion,
        {"label": mk.heads.Classifier(("a", "b"))},
        hidden_dim=8,
    )
    model.compile("sgd", **{"jit": False, **compiled})
    return model


def batch(kind, counts=(7, 3, 0)):
    """Rows with so many steps, one of them with a hole."""
    rng, spec = np.random.default_rng(0), SPECS[kind]
    mask = np.arange(24) < np.array(counts)[:, None]
    mask[0, 2] = False
    shape = (len(counts), *spec.shape)
    value = rng.integers(2, 22, shape) if spec.dtype == "int32" else rng.normal(size=shape)
    value = np.where(mask.reshape(mask.shape + (1,) * (len(shape) - 2)), value, 0)
    x = {
        "given": value.astype(spec.dtype),
        "given_mask": mask,
        "numbers": rng.normal(size=(len(counts), 3)).astype("float32"),
        "numbers_mask": np.arange(len(counts)) > 0,
    }
    return tf.nest.map_structure(tf.constant, (x, {"label": np.arange(len(counts)) % 2}))


def cut(x, length):
    return {k: v[:, :length] if k.startswith("given") else v for k, v in x.items()}


@pytest.mark.parametrize(("kind", "encoder", "fusion"), CASES)
def test_loss_and_gradients_are_those_of_the_padded_batch(kind, encoder, fusion):
    model = build(kind, encoder, fusion)
    x, y = batch(kind)
    padded = tf.nest.flatten(model._gradient(x, y, None))
    assert any(float(tf.reduce_max(abs(g))) > 1e-3 for g in padded[2:])
    for length in (7, 10):
        with lengths.shorter(model, {"given": (length, 24)}):
            found = tf.nest.flatten(model._gradient(cut(x, length), y, None))
        for one, other in zip(padded, found, strict=True):
            scale = 1.0 + np.abs(one).max()
            np.testing.assert_allclose(other, one, rtol=0, atol=5e-6 * scale)


def table(count=64):
    """Texts of 1 to 24 words, by row."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(VOCABULARY[3:], 1 + i % 24)) for i in range(count)]
    rows = {"given": texts, "label": ["a" if i % 3 else "b" for i in range(count)]}
    rows["numbers"] = rng.normal(size=(count, 3)).tolist()
    return mk.data.table(rows, {"given": TEXT, "numbers": NUMBERS}, "label", valid=0.25, seed=3)


@pytest.fixture(scope="module")
def data():
    return table()


BUCKETS = {"given": (6, 12, 24)}


@pytest.fixture
def traced(monkeypatch):
    """The lengths of the batches for which the gradient has been traced."""
    seen, gradient = [], mk.Model._gradient

    def counted(self, x, y, weights):
        seen.append(x["given"].shape[1])
        return gradient(self, x, y, weights)

    monkeypatch.setattr(mk.Model, "_gradient", counted)
    return seen


@pytest.mark.parametrize(("encoder", "jit"), [("lstm", True), ("char_cnn", False)])
def test_fit_traces_every_length_once_and_equals_padding(data, traced, jit, encoder):
    model = build("text", encoder, jit=jit)
    train = data.train(8, buckets=BUCKETS)
    valid = data.valid(8)
    first = model.fit(train, validation_data=valid, epochs=2, verbose=0).history
    assert sorted(traced) == [6, 12, 24]
    assert model.train_function.experimental_get_tracing_count() == 1
    assert model.test_function.experimental_get_tracing_count() == 1
    model.fit(train, validation_data=valid, initial_epoch=2, epochs=3, verbose=0)
    assert sorted(traced) == [6, 12, 24]

    def padded(x, y):
        more = 24 - tf.shape(x["given"])[1]
        wide = {k: tf.pad(x[k], [[0, 0], [0, more]]) for k in ("given", "given_mask")}
        return {**x, **{k: tf.ensure_shape(v, (8, 24)) for k, v in wide.items()}}, y

    other = build("text", encoder, jit=jit)
    whole = train.stream().take(3 * train.steps).map(padded)
    assert {int(x["given"].shape[1]) for x, _ in train.stream().take(train.steps)} == {6, 12, 24}
    second = other.fit(
        whole, validation_data=valid, epochs=3, steps_per_epoch=train.steps, verbose=0
    ).history
    np.testing.assert_allclose(first["loss"], second["loss"][:2], rtol=1e-5)
    np.testing.assert_allclose(first["val_loss"], second["val_loss"][:2], rtol=1e-5)
    for one, two in zip(model.trainable_variables, other.trainable_variables, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)


def test_jit_auto_measures_once_and_lengths_can_change(data, traced, monkeypatch):
    monkeypatch.setattr(jit_measure, "MIN_STEPS", 1)
    model = build("text", "bow", jit="auto")
    model.fit(data.train(8, buckets=BUCKETS), epochs=1, verbose=0)
    # Measured on the first batch, both ways.
    assert traced[0] == traced[1] and sorted(traced[2:]) == [6, 12, 24]
    model.fit(data.train(8), epochs=1, verbose=0)  # all of them padded
    with says(ValueError, "'given'", "shape (B, 24)", "(B, 12)"):
        model.fit(data.train(8).map(lambda x, y: (shortened(x), y)), verbose=0)


def shortened(x):
    return {**x, "given": x["given"][:, :12], "given_mask": x["given_mask"][:, :12]}


def test_accumulation_and_guard_take_buckets(data):
    results = []
    for options, callbacks in (({}, []), ({"accumulate_steps": 2}, [guard()])):
        model = build("text", "bow", **options)
        model.fit(data.train(8, buckets={"given": (8,)}), epochs=1, verbose=0, callbacks=callbacks)
        results.append(model.get_weights())
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)


def guard():
    return mk.training.NonFiniteGuard("unused", action="skip")


def test_what_needs_a_fixed_length_is_refused_before_training(data):
    def flat(name, modality):
        inputs, ids, mask = base.begin(name, modality)
        x = keras.layers.Embedding(30, 2, name=f"{name}_e")(ids)
        x = keras.layers.Reshape((1, 48), name=f"{name}_flat")(x)
        token = mk.layers.MeanToken(name=f"{name}_any")(x, mask[:, :1])
        return base.end(name, "flat", inputs, *token)

    def counting(name, modality):
        inputs, ids, mask = base.begin(name, modality)
        x = keras.layers.Embedding(30, 2, name=f"{name}_e")(ids)
        x = keras.layers.LayerNormalization(axis=(1, 2), center=False, scale=False)(x)
        return base.end(name, "counting", inputs, x, mask)

    train = data.train(8, buckets=BUCKETS)
    for encoder, what in ((flat, "Received: an error"), (counting, "counts the padding")):
        model = build("text", encoder)
        before = model.get_weights()
        with says(ValueError, "'given', cut to 6 steps", what, "Leave 'given' out of `buckets`"):
            model.fit(train, verbose=0)
        for one, two in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
        model.fit(data.train(8), verbose=0)


def test_patches_that_reach_beyond_a_bucket_are_refused():
    rng = np.random.default_rng(2)
    rows = {"given": [rng.normal(size=(3 + i, 2)) for i in range(16)], "label": ["a", "b"] * 8}
    rows["numbers"] = rng.normal(size=(16, 3)).tolist()
    data = mk.data.table(rows, {"given": SPECS["series"], "numbers": NUMBERS}, "label")
    patches = {"name": "patchtst", "patch_length": 6, "stride": 3}
    with says(ValueError, "'given', cut to 9 steps", "counts the padding"):
        build("series", patches).fit(data.train(4, buckets={"given": (9,)}), verbose=0)
    build("series", {"name": "tcn"}).fit(data.train(4, buckets={"given": (9,)}), verbose=0)


def test_one_device_equals_two_replicas(script_result):
    result = script_result("bucket_replicas")
    # The order of float32 sums is all that differs; measured 3e-8.
    assert max(result["plain"], result["xla"]) <= 1e-6
    for part in ("all replicas", "batch_normalization", "buckets={'text': (4, 8, 12)}"):
        assert part in result["refused"]
