"""The levels of fusion in `assemble`: what is read where, hybrids, masks, files, errors."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.fusion import FUSIONS
from mmkeras.training import settings, task
from mmkeras.training.balancing.heads import encoded
from tests import contract
from tests.models.test_assemble import HEADS, SPECS, batch_of, build

KINDS = ("image", "text", "vector")
NAMES = tuple(f"my_{kind}" for kind in KINDS)
EARLY = {
    "name": "early_transformer",
    "level": "features",
    "num_layers": 1,
    "raw": {"my_image": {"patch": 8}},
}
POOLED = {"name": "low_rank", "level": "pooled"}
LEVELS = {
    "features": EARLY,
    "tokens": "film",
    "pooled": POOLED,
    "decisions": {"name": "late_averaging", "level": "decisions"},
    "features+tokens": [EARLY, "film"],
    "tokens+decisions": ["late_averaging", "film"],
    "pooled+voting": ["voting", POOLED],
    "features+trusted": ["trusted", EARLY],
    "all": [EARLY, "film", POOLED, "stacking"],
}
every_level = pytest.mark.parametrize("level", LEVELS)


def build_at(level, kinds=KINDS, **kwargs):
    """A tiny model of one head, with random weights; a name of LEVELS, or a fusion."""
    fusion = LEVELS.get(level, level) if isinstance(level, str) else level
    early = {"encoders": None} if fusion is EARLY else {}
    heads = {"kind": mk.heads.Classifier(3)}
    model = build(kinds, **{"fusion": fusion, "heads": heads, **early, **kwargs})
    contract.randomize(model.trainable_variables, scale=0.1)
    return model


def names_of(model):
    return {layer.name for layer in model.layers}


# The contract -----------------------------------------------------------------------------------


@every_level
def test_masks_gradients_and_file(level, tmp_path):
    """NaN behind masks changes no bit; every weight trains, some samples all absent; the file."""
    model = build_at(level, hidden_dim=16)
    batch = batch_of(model, rows=8)
    for name in batch:
        if name.endswith("_mask"):
            batch[name][:2] = [[True], [False]] if batch[name].ndim == 2 else [True, False]
    tensors = contract.tensors(batch)
    out, found = contract.gradients(lambda: (model(tensors), model.losses), model.weights)
    contract.assert_all_train(found)
    assert all(np.isfinite(v).all() for v in contract.as_numpy(out[0]).values())
    filled = dict(batch)
    filled["my_vector"] = np.where(batch["my_vector_mask"][:, None], batch["my_vector"], np.nan)
    filled["my_vector"] = filled["my_vector"].astype("float32")
    for name in ("my_image", "my_text"):
        mask = batch[f"{name}_mask"]
        mask = mask.reshape(mask.shape + (1,) * (batch[name].ndim - mask.ndim))
        filled[name] = np.where(mask, batch[name], 7).astype(batch[name].dtype)
    garbage = contract.tensors(filled)
    other = contract.gradients(lambda: (model(garbage), model.losses), model.weights)
    contract.assert_same_bits(other, (out, found))
    paths = [w.path for w in model.weights]
    assert len(set(paths)) == len(paths)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    contract.assert_same_bits(loaded(tensors), out[0])


# What is read -----------------------------------------------------------------------------------


def test_layers_of_each_level():
    raw, encoders = {f"{n}_raw" for n in NAMES}, {"my_image_cnn", "my_text_lstm", "my_vector_mlp"}
    means = {f"{n}_pooled" for n in NAMES}
    hidden = names_of(build_at("features"))
    assert raw < hidden and not hidden & (encoders | means)
    for level in ("tokens", "decisions"):
        hidden = names_of(build_at(level))
        assert encoders < hidden and not hidden & (raw | means)
    hidden = names_of(build_at("pooled"))
    assert encoders | means < hidden and not hidden & raw
    model = build_at("all")
    four = {f"fusion_{level}" for level in mk.fusion.LEVELS}
    assert encoders | means | raw | four | {"fusion"} < names_of(model)
    assert type(model.get_layer("fusion")) is mk.fusion.HybridFusion
    assert type(model.get_layer("kind")) is mk.heads.Decision
    assert len(model.get_layer("kind").decisions) == 1 + len(NAMES)
    assert model.get_layer("my_image_raw").output["tokens"].shape == (None, 3 * 2, 8)


def test_the_level_is_tokens_or_that_of_decisions():
    for name in ("film", "late_averaging"):
        level = "decisions" if name == "late_averaging" else "tokens"
        plain = build_at(name)
        said = build_at({"name": name, "level": level})
        assert [w.path for w in plain.weights] == [w.path for w in said.weights]
        assert {layer.name: type(layer) for layer in plain.layers} == {
            layer.name: type(layer) for layer in said.layers
        }
    alone = build_at(["film"])
    assert [w.path for w in alone.weights] == [w.path for w in build_at("film").weights]


ENCODERS = dict(zip(NAMES, ("cnn", "lstm", "mlp"), strict=True))
RAW = dict.fromkeys(NAMES, "raw")


def read(model, tensors, by):
    """What the model's encoders, or its raw units, make of a batch: NumPy by modality."""
    return {
        name: contract.as_numpy(
            model.get_layer(f"{name}_{by[name]}")({k: tensors[k] for k in (name, f"{name}_mask")})
        )
        for name in NAMES
    }


def part(model, name, given):
    """What a fusion of the model makes of that."""
    return contract.as_numpy(model.get_layer(name)(contract.tensors(given)))


def ready(level):
    """A model, a batch, its answer and its weights by path."""
    model = build_at(level)
    tensors = contract.tensors(batch_of(model))
    weights = {v.path: v.numpy() for v in model.weights}
    return model, tensors, contract.as_numpy(model(tensors))["kind"], weights


def decision(x, weights, head="kind"):
    return x @ weights[f"{head}/dense/kernel"] + weights[f"{head}/dense/bias"]


def test_pooled_is_the_fusion_of_masked_means():
    model, tensors, answer, weights = ready("pooled")
    given = read(model, tensors, ENCODERS)
    for held in given.values():
        total = np.sum(held["tokens"] * held["mask"][..., None], axis=1, keepdims=True)
        held["tokens"] = total / np.maximum(held["mask"].sum(axis=1), 1)[:, None, None]
        held["mask"] = held["mask"].any(axis=1, keepdims=True)
    fused = part(model, "fusion", given)
    np.testing.assert_allclose(decision(fused["pooled"], weights), answer, atol=1e-5)


def test_features_are_the_raw_units():
    model, tensors, answer, weights = ready("features")
    fused = part(model, "fusion", read(model, tensors, RAW))
    np.testing.assert_allclose(decision(fused["pooled"], weights), answer, atol=1e-5)


def test_a_hybrid_is_a_dense_layer_on_its_fusions():
    model, tensors, answer, weights = ready("features+tokens")
    fused = {
        "features": part(model, "fusion_features", read(model, tensors, RAW)),
        "tokens": part(model, "fusion_tokens", read(model, tensors, ENCODERS)),
    }
    both = np.concatenate([fused[level]["pooled"] for level in fused], axis=1)
    kernel = np.concatenate([weights[f"fusion/{level}_projection/kernel"] for level in fused])
    pooled = both @ kernel + weights["fusion/bias"]
    np.testing.assert_allclose(decision(pooled, weights), answer, atol=1e-5)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def test_a_fusion_decides_beside_the_modalities():
    """The mean, over the present modalities and their fusion, of what each decides."""
    model, tensors, answer, weights = ready("tokens+decisions")
    given = read(model, tensors, ENCODERS)
    late, fused = part(model, "fusion_decisions", given), part(model, "fusion_tokens", given)
    pooled = fused["pooled"] @ weights["fusion/tokens_projection/kernel"] + weights["fusion/bias"]
    h = np.concatenate([late["tokens"], pooled[:, None]], axis=1)
    mask = np.pad(late["mask"], ((0, 0), (0, 1)), constant_values=True)
    p = [softmax(decision(h[:, i], weights, f"kind/decision{i}")) for i in range(4)]
    p = np.sum(np.stack(p, axis=1) * mask[..., None], axis=1) / mask.sum(axis=1, keepdims=True)
    assert not mask.all()
    np.testing.assert_allclose(softmax(answer), p, atol=1e-5)


def test_layers_classes_and_widths():
    """An instance or a class in place of the name; each fusion may have a width of its own."""
    mine = mk.fusion.GatedFusion(NAMES, hidden_dim=5, name="mine")
    model = build_at([{"name": mine, "level": "pooled"}, {"name": "sum", "hidden_dim": 4}])
    assert mine in model.layers
    assert {v.path: tuple(v.shape) for v in model.get_layer("fusion").weights} == {
        "fusion/tokens_projection/kernel": (4, 8),
        "fusion/pooled_projection/kernel": (5, 8),
        "fusion/bias": (8,),
    }
    model = build_at([{"name": mk.fusion.GatedFusion, "level": "pooled"}, mk.fusion.SumFusion])
    assert type(model.get_layer("fusion_pooled")) is mk.fusion.GatedFusion
    assert type(model.get_layer("fusion_tokens")) is mk.fusion.SumFusion
    model = build_at([{"name": "stacking", "hidden_dim": 6}, "sum"])
    assert model.get_layer("fusion").hidden_dim == 6


def test_precision_of_the_parts():
    model = build_at("all", precision={"fusion": "mixed_bfloat16", "my_image": "mixed_bfloat16"})
    low = {"fusion", *(f"fusion_{level}" for level in mk.fusion.LEVELS)}
    assert {model.get_layer(name).compute_dtype for name in low} == {"bfloat16"}
    for name, dtype in (("my_image_raw", "bfloat16"), ("my_vector_raw", "float32")):
        assert model.get_layer(name).output["tokens"].dtype == dtype
    assert np.isfinite(contract.as_numpy(model(contract.tensors(batch_of(model))))["kind"]).all()


def test_alignment_comes_before_what_encoders_return():
    model = build_at([EARLY, POOLED], alignment="linear")
    assert model.get_layer("my_image_pooled").output[0].shape == (None, 1, 8)
    assert "alignment" in names_of(model)


WORDS = {"encoders": {"my_text": {"name": "bow", "embedding_dim": 5, "hidden_dim": 6}}}
HYBRID = [{"name": "sum", "level": "features"}, POOLED, "stacking"]


def test_20_steps_lower_the_loss():
    model = build_at(HYBRID, KINDS[1:], **WORDS)
    model.compile(keras.optimizers.Adam(3e-3), jit=False)
    batch, truth = batch_of(model), {"kind": np.arange(6) % 3}
    history = model.fit(batch, truth, batch_size=6, epochs=20, verbose=0, shuffle=False).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_export_with_a_modality_left_out(tmp_path):
    model = build_at(HYBRID, KINDS[1:], **WORDS)
    specs = {name: SPECS[name.removeprefix("my_")] for name in NAMES[1:]}
    mk.export.saved_model(model, specs, tmp_path / "1", signatures=("serving_default",))
    answer = mk.export.ask(tmp_path / "1", {"my_text": ["w1 w2", "w3"]})
    batch = batch_of(model, rows=2)
    batch["my_text"] = np.array([[3, 4, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0]], "int32")
    batch["my_text_mask"], batch["my_vector_mask"] = batch["my_text"] > 0, np.zeros(2, bool)
    expected = tf.nn.softmax(model(contract.tensors(batch))["kind"])
    np.testing.assert_allclose(answer["kind_scores"], expected, atol=1e-5)


def test_comparisons_and_remedies_know_the_levels():
    """An early row of a comparison has no encoders; a remedy balances encoders, not raw units."""
    rng, classes = np.random.default_rng(0), ["a", "b"] * 6
    columns = {"x": rng.normal(size=(12, 3)), "y": rng.normal(size=(12, 2)), "kind": classes}
    specs = {"x": mk.Vector(size=3), "y": mk.Vector(size=2)}
    data = mk.data.table(columns, specs, "kind", valid=0.5)
    heads = {"kind": mk.heads.Classifier(data.classes)}
    given = task.checked(data, {"x": "mlp", "y": "mlp"}, heads, None, ("valid",))
    early, late = {"name": "sum", "level": "features"}, {"name": mk.fusion.SumFusion}
    assert {"x_raw", "y_raw"} < names_of(given.build(early, 8))
    assert {"x_mlp", "y_mlp"} < names_of(given.build(late, 8))
    both = given.build([early, late], 8)
    assert {"x_raw", "y_raw", "x_mlp", "y_mlp"} < names_of(both)
    assert {name: found[0].name for name, found in encoded(both).items()} == {
        "x": "x_mlp",
        "y": "y_mlp",
    }
    assert set(encoded(given.build(early, 8))) == {"x", "y"}
    assert list(settings.named([[early, "film"], late])) == ["sum_and_film", "SumFusion"]
    with pytest.raises(TypeError, match="Received: the finished layer 'own'"):
        settings.named({"row": [early, mk.fusion.SumFusion(("x", "y"), name="own")]})


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "text"),
    [
        ({"name": "film", "level": "late"}, "`level` must be one of.*Received: level='late'"),
        ({"name": "film", "level": "decisions"}, "stand the fusions that combine decisions, "),
        ({"name": "voting", "level": "pooled"}, "stand nowhere else. Received: .*'voting'"),
        ([], "one for each of its levels. Received: fusions at .."),
        (["film", "sum"], r"Received: fusions at \['tokens', 'tokens'\]. Give one of them another"),
        (["film", "filn"], "Unknown fusion 'filn'.*Did you mean 'film'"),
        ({"name": "film", "raw": {"my_image": {}}}, "at the level 'features'. Received: raw="),
        ({**EARLY, "raw": {"my_imag": {}}}, "Unknown modality 'my_imag' in `raw`.*mean 'my_image'"),
        ([{**EARLY, "raw": {"my_image": {"pitch": 1}}}, "sum"], "argument 'pitch'.*mean 'patch'"),
        ({"level": "pooled"}, "A fusion must be a name"),
        ({"name": "memory_fusion", "level": "pooled"}, "reads steps, and there is one"),
        (EARLY, "reads raw units, and no encoder.*'my_image', 'my_text', 'my_vector'.*or add a"),
    ],
)  # fmt: skip
def test_wrong_fusions(fusion, text):
    with pytest.raises((TypeError, ValueError), match=text):
        build(KINDS, fusion=fusion, heads={"kind": HEADS["kind"]})


def test_other_errors():
    with pytest.raises(ValueError, match=r"and no encoder or alignment.*Received: \['alignment'\]"):
        build_at("features", alignment="linear")
    with pytest.raises(ValueError, match="Received twice: my_text_pooled. Rename the modality or"):
        build_at("pooled", heads={"my_text_pooled": HEADS["kind"]})
    same = mk.fusion.SumFusion(NAMES, name="same")
    with pytest.raises(ValueError, match="Received twice: same. .*the layer, if it is one of your"):
        build_at([same, {"name": same, "level": "pooled"}])
    with pytest.raises(ValueError, match="precision of 'fusion' must be set where it is made"):
        build_at([same, POOLED], precision={"fusion": "mixed_bfloat16"})


def test_every_level_has_a_fusion():
    """The families are told apart: four combine decisions."""
    from mmkeras.models import levels

    for name in FUSIONS:
        late = name in ("late_averaging", "stacking", "trusted", "voting")
        assert list(levels.place(name, NAMES)) == ["decisions" if late else "tokens"]
