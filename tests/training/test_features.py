"""Features of a frozen tower: equal to the tower, absent items, keys, the error texts."""

from dataclasses import replace

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.training import cache_features, pooled
from tests.core.errors import says
from tests.data import files

WIDTH = 6


@pytest.fixture
def data(rng):
    pixels = rng.integers(0, 256, (8, 8, 8, 3)).astype("uint8")
    pictures = [files.encode(p) for p in pixels]
    rows = {
        "picture": [*pictures[:5], None, pictures[0], pictures[1]],
        "numbers": rng.normal(size=(8, 3)).astype("float32"),
        "label": ["a", "b"] * 4,
    }
    specs = {"picture": mk.Image(size=8), "numbers": mk.Vector(size=3, normalize=False)}
    return mk.data.table(rows, specs, "label", valid=rows)


def tower(data):
    cnn = encoders.image_cnn("picture", data.modalities["picture"], filters=(4, WIDTH))
    encoder = pooled(cnn)
    encoder.trainable = False
    return encoder


def model_of(modalities, encoder):
    heads = {"label": mk.heads.Classifier(("a", "b"))}
    return mk.assemble(modalities, {"picture": encoder}, "concatenation", heads, hidden_dim=5)


def passed_on():
    return {"name": "mlp", "num_layers": 0, "hidden_dim": WIDTH}


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_model_on_features_answers_as_one_on_pictures(data, tmp_path, where):
    whole = model_of(data.modalities, tower(data))
    folder = tmp_path if where == "disk" else None
    new = cache_features(whole, data, "picture", folder=folder, batch_size=3)
    assert new.modalities["picture"] == mk.Vector(size=WIDTH, normalize=False)
    assert new.modalities["numbers"] is data.modalities["numbers"]
    column = new.splits["valid"].columns["picture"]
    assert len(column.items) == 6  # every distinct item once
    assert isinstance(column.items, np.memmap) == (where == "disk")
    light = model_of(new.modalities, passed_on())
    for layer in ("numbers_mlp", "fusion", "label"):
        light.get_layer(layer).set_weights(whole.get_layer(layer).get_weights())
    expected = whole.predict(data.valid(4), verbose=0)["label"]
    got = light.predict(new.valid(4), verbose=0)["label"]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.abs(expected - expected[0]).max() > 1e-3
    assert (
        new.splits["valid"].columns["picture"].absent().tolist()
        == [False] * 5 + [True] + [False] * 2
    )
    assert np.isnan(new.raw("valid", [5])["picture"]).all()  # as a request leaves it out
    light.compile("adamw")
    light.fit(new.train(4), epochs=1, verbose=0)


def test_the_key_is_of_weights_and_items(data, tmp_path):
    encoder = tower(data)

    def held():
        return sorted(path.name for path in tmp_path.iterdir())

    first = cache_features(encoder, data, "picture", folder=tmp_path)
    before = held()
    assert len(before) == 1  # train and valid hold the same items
    cache_features(encoder, data, "picture", folder=tmp_path)
    assert held() == before
    encoder.set_weights([w + 0.1 for w in encoder.get_weights()])
    second = cache_features(encoder, data, "picture", folder=tmp_path)
    assert len(held()) == 2
    a, b = (d.splits["train"].columns["picture"].items for d in (first, second))
    assert np.abs(a[0] - b[0]).max() > 1e-3
    fresh = cache_features(encoder, data, "picture")
    np.testing.assert_allclose(b, fresh.splits["train"].columns["picture"].items, atol=1e-6)
    cache_features(encoder, data.take("train", np.arange(4)), "picture", folder=tmp_path)
    assert len(held()) == 2  # the items are the same, fewer rows point to them


def test_pooled_is_the_masked_mean(data):
    cnn = encoders.image_cnn("picture", data.modalities["picture"], filters=(4, WIDTH))
    x = next(iter(data.valid(8)))[0]
    batch = {name: x[name] for name in ("picture", "picture_mask")}
    tokens = keras.ops.convert_to_numpy(cnn(batch)["tokens"])
    out = pooled(cnn)(batch)
    expected = tokens.mean(axis=1) * x["picture_mask"].numpy()[:, None]
    np.testing.assert_allclose(out["tokens"][:, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(out["mask"][:, 0], x["picture_mask"])


def test_errors_teach(data):
    encoder = tower(data)
    with says(ValueError, "Unknown modality 'pictures'", "'picture'"):
        cache_features(encoder, data, "pictures")
    with says(TypeError, "what mk.data.table returns", "Received: Mix"):
        cache_features(encoder, mk.data.mix({"all": data, "again": data}), "picture")
    with says(ValueError, "encoder of 'numbers'", "'numbers_mask'", "Pass the assembled model"):
        cache_features(encoder, data, "numbers")
    encoder.trainable = True
    with says(ValueError, "must be frozen", "variables that train", "trainable = False"):
        cache_features(encoder, data, "picture")
    cnn = encoders.image_cnn("picture", data.modalities["picture"], filters=(4, WIDTH))
    cnn.trainable = False
    with says(ValueError, "one token", "Received: 4 tokens", "pooled(encoder)"):
        cache_features(cnn, data, "picture")


def test_augmentation_is_left_out_with_a_warning(data):
    encoder = tower(data)
    spec = data.modalities["picture"].replace(augment={"flip": {}})
    augmented = replace(data, modalities={**data.modalities, "picture": spec})
    with pytest.warns(UserWarning, match="flip.*left out"):
        cache_features(encoder, augmented, "picture")
