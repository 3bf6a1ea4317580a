"""The contrastive objective as a part of a model: masks, scale, export, errors."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.export.answer import answer
from mmkeras.objectives import Contrastive


def specs():
    return {name: mk.Vector(size=size, normalize=False) for name, size in (("a", 3), ("b", 2))}


def batch(rows=5):
    rng = np.random.default_rng(0)
    x = {"a": rng.standard_normal((rows, 3)), "b": rng.standard_normal((rows, 2))}
    masks = {"a_mask": np.arange(rows) != 1, "b_mask": np.arange(rows) % 3 != 2}
    return {**{name: value.astype("float32") for name, value in x.items()}, **masks}


def test_embeddings_are_unit_vectors_and_zero_where_absent():
    model = mk.assemble(specs(), heads={"match": Contrastive(4)})
    x = batch()
    e = model.predict_on_batch(x)["match"]
    assert e.shape == (5, 2, 4)
    for i, name in enumerate("ab"):
        there = x[f"{name}_mask"]
        np.testing.assert_allclose(np.linalg.norm(e[there, i], axis=1), 1.0, rtol=1e-5)
        assert not e[~there, i].any()
        x[name][~there] = np.nan
    assert model.predict_on_batch(x)["match"].tobytes() == e.tobytes()
    assert not any(layer.name == "fusion" for layer in model.layers)  # nothing reads it


def test_export_holds_the_embeddings(tmp_path):
    model = mk.assemble(specs(), heads={"match": Contrastive(4)})
    mk.export.saved_model(model, specs(), tmp_path / "1")
    x = batch()
    request = {"a": x["a"].tolist(), "b": np.full((1, 2), np.nan).tolist()}
    found = np.array(answer(str(tmp_path / "1"), request)["match"]).reshape(5, 2, 4)
    x["b_mask"][:] = False
    x["a_mask"][:] = True
    np.testing.assert_array_equal(found, model.predict_on_batch(x)["match"])


@pytest.mark.parametrize("loss", ["info_nce", "siglip", "triplet"])
def test_every_weight_learns_and_the_scale_stays_below_its_clamp(loss):
    model = mk.assemble(specs(), heads={"match": Contrastive(4, loss, scale=8, max_scale=8.001)})
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    before = [v.numpy() for v in model.trainable_variables]
    for _ in range(4):
        model.train_on_batch(batch(), {})
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert np.isfinite(variable.numpy()).all()
        assert not np.array_equal(variable.numpy(), value), variable.path
    if loss != "triplet":
        assert float(model.get_layer("match").inverse_temperature()) <= 8.0011


def test_a_scale_that_is_not_learnt_stays_and_the_bias_learns():
    model = mk.assemble(specs(), heads={"match": Contrastive(4, "siglip", learn_scale=False)})
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    model.train_on_batch(batch(), {})
    layer = model.get_layer("match")
    assert float(layer.inverse_temperature()) == pytest.approx(10.0, rel=1e-6)
    assert float(layer.bias) != -10.0


def test_an_absent_modality_in_every_row_is_no_loss():
    model = mk.assemble(specs(), heads={"match": Contrastive(4)})
    model.compile("sgd", jit=False)
    x = {**batch(), "b_mask": np.zeros(5, bool)}
    assert model.train_on_batch(x, {}, return_dict=True)["loss"] == 0.0
    assert all(np.isfinite(v.numpy()).all() for v in model.variables)


def test_config_round_trip():
    layer = Contrastive(6, "siglip", tile=32, modalities=("a", "b"), name="match")
    again = Contrastive.from_config(layer.get_config())
    assert again.get_config() == layer.get_config() and again.scale == 10.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"loss": "clip"}, "'info_nce'"),
        ({"dim": 0}, "`?dim"),
        ({"scale": 0.0}, "`scale` must be above 0"),
        ({"scale": 200.0}, "max_scale=100"),
        ({"negatives": "easy"}, "'hardest'"),
        ({"loss": "triplet", "tile": 8}, "'triplet' has no tiles.*tile=8"),
    ],
)
def test_wrong_arguments(wrong, says):
    with pytest.raises(ValueError, match=says):
        Contrastive(**wrong)


def test_the_loss_of_a_queue_is_no_choice():
    with pytest.raises(ValueError, match="has no such choice. Received: loss='siglip'"):
        mk.objectives.MomentumContrastive(4, loss="siglip")


def test_one_modality_is_refused():
    with pytest.raises(ValueError, match=r"two modalities or more .*Received: \('a',\)"):
        mk.assemble({"a": specs()["a"]}, heads={"match": Contrastive(4)})
