"""CLIP and SigLIP: what they are made of, towers, locked towers from cached features, export."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.export.answer import answer
from mmkeras.objectives import Contrastive

SPECS = {
    "image": mk.Image(size=8),
    "text": mk.Text(length=4, vocabulary=("[PAD]", "[UNK]", "red", "green", "blue")),
    "numbers": mk.Vector(size=3, normalize=False),
}
ENCODERS = {"image": {"name": "cnn", "filters": (8,)}, "text": "bow"}


def columns(rng, rows=8):
    words = rng.choice(["red", "green", "blue"], (rows, 2))
    return {
        "image": list(rng.integers(0, 256, (rows, 8, 8, 3)).astype("uint8")),
        "text": [None if i == 3 else " ".join(pair) for i, pair in enumerate(words)],
        "numbers": rng.standard_normal((rows, 3)).astype("float32"),
    }


def table(rng, names):
    rows = columns(rng)
    rows["image"][5] = None
    specs = {name: SPECS[name] for name in names}
    return mk.data.table(rows, specs, valid=rows)


@pytest.mark.parametrize("make", [mk.models.clip, mk.models.siglip])
def test_a_model_as_any_other(make, rng, tmp_path):
    data = table(rng, SPECS)
    model = make(data.modalities, ENCODERS, dim=6, scale=5, max_scale=20)
    assert isinstance(model, mk.Model) and model.name == make.__name__
    objective = model.get_layer("match")
    assert objective.loss == ("siglip" if make is mk.models.siglip else "info_nce")
    assert (objective.dim, objective.max_scale) == (6, 20)
    model.compile(keras.optimizers.Adam(0.02), jit=False)
    losses = model.fit(data.train(8), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0] and np.isfinite(losses).all()
    x = next(iter(data.valid(8)))[0]
    found = model.predict_on_batch(x)["match"]
    assert found.shape == (8, 3, 6) and not found[3, 1].any() and not found[5, 0].any()
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x)["match"], found)
    mk.export.saved_model(model, data.modalities, tmp_path / "1", signatures=("serving_default",))
    raw = {name: list(cells) for name, cells in data.raw("valid", np.arange(8)).items()}
    served = np.array(answer(str(tmp_path / "1"), raw)["match"]).reshape(8, 3, 6)
    np.testing.assert_allclose(served, found, atol=1e-5)


def test_towers_are_the_columns_of_the_model(rng, tmp_path):
    data = table(rng, SPECS)
    model = mk.models.clip(data.modalities, ENCODERS, dim=6)
    model.save(tmp_path / "model.keras")
    x = next(iter(data.valid(8)))[0]
    for whole in (model, keras.models.load_model(tmp_path / "model.keras")):
        found = whole.predict_on_batch(x)["match"]
        for i, name in enumerate(SPECS):
            one = mk.models.tower(whole, name)
            own = {key: x[key] for key in (name, f"{name}_mask")}
            np.testing.assert_allclose(
                one.predict_on_batch(own)["embedding"], found[:, i], atol=1e-6
            )
    one = mk.models.tower(model, "image")
    mk.export.saved_model(
        one, {"image": data.modalities["image"]}, tmp_path / "1", signatures=("serving_default",)
    )
    raw = list(data.raw("valid", np.arange(8))["image"])
    served = answer(str(tmp_path / "1"), {"image": raw})["embedding"]
    np.testing.assert_allclose(served, model.predict_on_batch(x)["match"][:, 0], atol=1e-5)


def test_a_locked_tower_trains_from_its_features_as_from_pictures(rng):
    data = table(rng, ("image", "text"))
    cnn = encoders.image_cnn("image", data.modalities["image"], filters=(8,))
    image = mk.training.pooled(cnn)
    image.trainable = False
    cached = mk.training.cache_features(image, data, "image")
    passed = {"name": "mlp", "num_layers": 0, "hidden_dim": 8}
    light = mk.models.clip(cached.modalities, {"image": passed, "text": "bow"}, dim=6)
    whole = mk.models.clip(data.modalities, {"image": image, "text": "bow"}, dim=6)
    locked = [w.numpy() for w in cnn.weights]
    own = [layer.name for layer in light.layers if layer.weights]
    assert own == ["text_bow", "match"]

    def copy(source, to):
        for name in own:
            to.get_layer(name).set_weights(source.get_layer(name).get_weights())

    copy(whole, light)
    for model, rows in ((light, cached), (whole, data)):
        model.compile(keras.optimizers.SGD(0.5), jit=False)
        model.fit(rows.train(8, shuffle=False), epochs=3, verbose=0)
    for name in own:
        weights = zip(
            light.get_layer(name).get_weights(), whole.get_layer(name).get_weights(), strict=True
        )
        for a, b in weights:
            np.testing.assert_allclose(a, b, atol=1e-5)
    for weight, before in zip(cnn.weights, locked, strict=True):
        np.testing.assert_array_equal(weight, before)
    fresh = mk.models.clip(data.modalities, {"image": image, "text": "bow"}, dim=6)
    copy(light, fresh)
    expected = light.predict(cached.valid(8), verbose=0)["match"]
    np.testing.assert_allclose(
        fresh.predict(data.valid(8), verbose=0)["match"], expected, atol=1e-5
    )


def test_errors_teach():
    specs = {name: SPECS[name] for name in ("text", "numbers")}
    with pytest.raises(ValueError, match="two modalities or more"):
        mk.models.clip({"text": SPECS["text"]})
    with pytest.raises(ValueError, match="'info_nce'"):
        mk.models.clip(specs, loss="clip")
    with pytest.raises(ValueError, match="has no modality 'numbrs'.*numbers"):
        mk.models.tower(mk.models.clip(specs), "numbrs")
    aligned = mk.assemble(specs, heads={"match": Contrastive(4)}, alignment="linear")
    with pytest.raises(ValueError, match="'alignment' before the objective"):
        mk.models.tower(aligned, "text")
    heads = {"a": Contrastive(4), "b": Contrastive(4)}
    two = mk.assemble(specs, heads=heads)
    with pytest.raises(ValueError, match=r"one contrastive objective. It has \['a', 'b'\]"):
        mk.models.tower(two, "text")
    assert mk.models.tower(two, "text", "b").output["embedding"].shape == (None, 4)
