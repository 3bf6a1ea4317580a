"""`assemble` and `models.graph`: names, defaults, errors, custom parts, training."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.encoders import ENCODERS
from mmkeras.fusion import FUSIONS
from tests import contract
from tests.encoders.inputs import SMALL, SPECS, random_batch

HEADS = {
    "kind": mk.heads.Classifier(3),
    "tags": mk.heads.MultiLabel(4),
    "size": mk.heads.Regressor(),
}
SMALLEST = {
    kind: {"name": next(iter(table)), **SMALL.get((kind, next(iter(table))), {})}
    for kind, table in ENCODERS.items()
}


KINDS = ("image", "text", "audio", "vector")


def build(kinds=KINDS, **kwargs):
    """A tiny model; every modality is named `my_<kind>`."""
    specs = {f"my_{kind}": SPECS[kind] for kind in kinds}
    encoders = {f"my_{kind}": SMALLEST[kind] for kind in kinds}
    arguments = {"encoders": encoders, "heads": HEADS, "hidden_dim": 8, **kwargs}
    return mk.assemble(specs, **arguments)


def build_of(fusion, **kwargs):
    """A tiny model with a fusion, of the kinds and heads that it takes."""
    kinds = {"memory_fusion": ("audio", "vector")}  # one sequence, and one token
    heads = {"trusted": ("kind",), "voting": ("kind", "tags")}
    heads = {name: HEADS[name] for name in heads.get(fusion, HEADS)}
    return build(kinds.get(fusion, KINDS), fusion=fusion, heads=heads, **kwargs)


def batch_of(model, rows=6, seed=0):
    """A random batch for `build`'s models."""
    batch = {}
    for name in model.input:
        if not name.endswith("_mask"):
            batch.update(random_batch(name, SPECS[name.removeprefix("my_")], rows, seed))
    return batch


def truth_of(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "kind": rng.integers(0, 3, rows),
        "tags": rng.integers(0, 2, (rows, 4)).astype("float32"),
        "size": rng.standard_normal((rows, 1)).astype("float32"),
    }


def test_names_of_inputs_and_outputs():
    model = build()
    assert type(model) is mk.Model
    assert list(model.input) == [
        "my_image", "my_image_mask", "my_text", "my_text_mask",
        "my_audio", "my_audio_mask", "my_vector", "my_vector_mask",
    ]  # fmt: skip
    assert {k: t.name for k, t in model.input.items()} == {k: k for k in model.input}
    assert {k: tuple(t.shape) for k, t in model.output.items()} == {
        "kind": (None, 3), "tags": (None, 4), "size": (None, 1),
    }  # fmt: skip
    assert set(model.output_names) == set(HEADS)
    for name, head in HEADS.items():
        layer = model.get_layer(name)
        assert type(layer) is type(head)
        assert all(v.path.startswith(f"{name}/") for v in layer.weights)
    paths = [v.path for v in model.weights]
    assert len(set(paths)) == len(paths)
    out = model(contract.tensors(batch_of(model)))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "kind": (6, 3), "tags": (6, 4), "size": (6, 1),
    }  # fmt: skip
    assert all(v.dtype == "float32" for v in out.values())


def test_defaults():
    specs = {"a": SPECS["image"], "b": SPECS["text"]}
    model = mk.assemble(specs, heads={"kind": mk.heads.Classifier(2)})
    assert model.name == "multimodal"
    assert {"a_cnn", "b_lstm"} < {layer.name for layer in model.layers}
    fusion = model.get_layer("fusion")
    assert type(fusion) is mk.fusion.LateTransformerFusion
    assert (fusion.modalities, fusion.hidden_dim, fusion.dropout) == (("a", "b"), 64, 0.0)


def test_arguments_reach_the_fusion():
    model = build(fusion={"name": "gated", "dropout": 0.1}, dropout=0.3, name="mine")
    fusion = model.get_layer("fusion")
    assert (model.name, fusion.hidden_dim, fusion.dropout) == ("mine", 8, 0.1)
    model = build(("vector",), fusion="concatenation", dropout=0.3)
    assert model.get_layer("fusion").dropout == 0.3


def test_the_fusion_reads_in_declared_order_and_the_batch_in_any():
    one = build(("image", "vector"), fusion="concatenation")
    assert one.get_layer("fusion").modalities == ("my_image", "my_vector")
    other = build(("vector", "image"), fusion="concatenation")
    assert other.get_layer("fusion").modalities == ("my_vector", "my_image")
    batch = contract.tensors(batch_of(one))
    contract.assert_same_bits(one(contract.reverse_dicts(batch)), one(batch))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_of_every_kind(fusion, tmp_path):
    """All absent, some absent, NaN behind masks; `.keras` file."""
    model = build_of(fusion)
    contract.randomize(model.trainable_variables, scale=0.1)
    batch = batch_of(model)
    garbage = dict(batch)
    for name in ("my_audio", "my_vector"):
        mask = batch[f"{name}_mask"]
        mask = mask if mask.ndim == 2 else mask[:, None]
        garbage[name] = np.where(mask, batch[name], np.nan).astype("float32")
    out = model(contract.tensors(batch))
    contract.assert_same_bits(model(contract.tensors(garbage)), out)
    assert all(np.isfinite(v).all() for v in contract.as_numpy(out).values())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is mk.Model
    contract.assert_same_bits(loaded(contract.tensors(batch)), out)


def test_every_weight_trains_through_the_heads():
    """Through heads and losses of layers: with some samples all absent, every weight trains."""
    keras.utils.set_random_seed(0)
    for fusion in FUSIONS:
        model = build_of(fusion, hidden_dim=32)  # wide, for a maximum to find each modality's
        contract.randomize(model.trainable_variables, scale=0.1)
        batch = batch_of(model, rows=8)
        for name in batch:
            if name.endswith("_mask"):
                batch[name][:2] = [[True], [False]] if batch[name].ndim == 2 else [True, False]
        tensors = contract.tensors(batch)
        _, found = contract.gradients(
            lambda m=model, t=tensors: (m(t), m.losses), model.trainable_variables
        )
        contract.assert_all_train(found)


def test_20_steps_lower_the_loss():
    model = build(("image", "text", "vector"))
    model.compile(keras.optimizers.Adam(3e-3), jit=False)
    batch, truth = batch_of(model), truth_of()
    history = model.fit(batch, truth, batch_size=6, epochs=20, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    for name in ("kind_accuracy", "tags_accuracy", "tags_auc", "size_mae"):
        assert name in history
    logs = model.evaluate(batch, truth, verbose=0, return_dict=True)
    assert logs["loss"] < history["loss"][0]
    assert {k: v.shape for k, v in model.predict(batch, verbose=0).items()} == {
        "kind": (6, 3), "tags": (6, 4), "size": (6, 1),
    }  # fmt: skip


def test_summary_says_what_is_in_it(capsys):
    model = build()
    model.summary()
    printed = capsys.readouterr().out
    for word in ("my_image_cnn", "my_text_lstm", "my_audio_cnn", "my_vector_mlp", "fusion", "kind"):
        assert word in printed
    assert f"{model.count_params():,}" in printed


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    plain = build()
    keras.mixed_precision.set_global_policy(policy)
    model = build()
    model.set_weights([v.numpy() for v in plain.weights])
    assert model.get_layer("fusion").compute_dtype == keras.DTypePolicy(policy).compute_dtype
    batch = contract.tensors(batch_of(model))
    out = model(batch)
    assert all(v.dtype == "float32" for v in out.values())
    contract.assert_close(out, plain(batch), 0.1)


# Custom parts -----------------------------------------------------------------------------------


def pooled_pixels(name, modality):
    """An encoder of a user: the mean colour as one token."""
    value = keras.Input(modality.shape, dtype=modality.dtype, name=name)
    mask = keras.Input((), dtype="bool", name=f"{name}_mask")
    x = keras.layers.Rescaling(1 / 255, name=f"{name}_rescale")(value)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    tokens = keras.layers.Reshape((1, modality.channels), name=f"{name}_token")(x)
    present = keras.layers.Reshape((1,), name=f"{name}_present")(mask)
    inputs = {name: value, f"{name}_mask": mask}
    return keras.Model(inputs, {"tokens": tokens, "mask": present}, name=f"{name}_mine")


@pytest.mark.parametrize("as_model", [False, True], ids=["callable", "model"])
def test_an_encoder_of_your_own(as_model, tmp_path):
    encoder = pooled_pixels("my_image", SPECS["image"]) if as_model else pooled_pixels
    model = build(("image", "vector"), encoders={"my_image": encoder})
    batch = batch_of(model)
    out = contract.as_numpy(model(contract.tensors(batch)))
    other = dict(batch)
    hidden = ~batch["my_image_mask"][:, None, None, None]
    other["my_image"] = np.where(hidden, 255, batch["my_image"]).astype("uint8")
    contract.assert_same_bits(model(contract.tensors(other)), out)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    contract.assert_same_bits(loaded(contract.tensors(batch)), out)


def test_an_encoder_with_the_wrong_tokens_is_refused():
    def flat(name, modality):
        value = keras.Input(modality.shape, name=name)
        mask = keras.Input((), dtype="bool", name=f"{name}_mask")
        return keras.Model({name: value, f"{name}_mask": mask}, {"tokens": value, "mask": mask})

    with pytest.raises(ValueError, match=r"tokens of 'my_vector' must be \(B, T, D\).*Received"):
        build(("vector",), encoders={"my_vector": flat})


def test_a_fusion_instance():
    fusion = mk.fusion.GatedFusion(["my_image", "my_vector"], hidden_dim=4, name="unit")
    model = build(("image", "vector"), fusion=fusion)
    assert fusion in model.layers
    with pytest.raises(ValueError, match="one entry for each of its modalities"):
        build(("image", "text"), fusion=mk.fusion.GatedFusion(["my_image", "my_vector"]))


def test_a_head_of_your_own():
    """Any layer may be a head, and `compile` then wants its loss."""

    @mk.register
    class Gate(keras.layers.Layer):
        """The sigmoid of the first pooled number."""

        def call(self, fused):
            """Returns (B, 1)."""
            return keras.ops.sigmoid(fused["pooled"][:, :1])

        def compute_output_spec(self, fused):
            """(B, 1)."""
            return keras.KerasTensor((fused["pooled"].shape[0], 1), "float32")

    model = build(("vector",), heads={"gate": Gate(name="gate")})
    assert tuple(model.output["gate"].shape) == (None, 1)
    with pytest.raises(ValueError, match=r"loss for every output. Received none for \['gate'\]"):
        model.compile()
    model.compile("sgd", loss={"gate": "binary_crossentropy"}, jit=False)
    model.fit(batch_of(model), {"gate": np.ones((6, 1))}, verbose=0)


def test_functions_as_fusion_and_head():
    def first(encoded):
        tokens = encoded["my_vector"]["tokens"]
        return {**encoded["my_vector"], "pooled": keras.ops.mean(tokens, axis=1)}

    model = build(("vector",), fusion=first, heads={"sum": lambda f: keras.ops.sum(f["pooled"], 1)})
    assert tuple(model.output["sum"].shape) == (None,)


def test_one_head_under_two_names_makes_two_heads():
    head = mk.heads.Classifier(3)
    model = build(("vector",), heads={"first": head, "second": head})
    assert model.get_layer("first") is not model.get_layer("second")
    assert not head.built


# Errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"encoders": {"my_text": "transfomer"}}, ValueError, "Did you mean 'transformer'"),
        ({"encoders": {"my_txt": "lstm"}}, ValueError, "Unknown modality 'my_txt'.*mean 'my_text'"),
        ({"fusion": "film_"}, ValueError, "Unknown fusion 'film_'.*Did you mean 'film'"),
        ({"fusion": 3}, TypeError, "A fusion must be a name, a dict"),
        ({"fusion": {"name": "gated", "hidden_dim": 0}}, ValueError, "`hidden_dim` must be"),
        ({"heads": None}, ValueError, "`heads` must be a dict of output name -> head"),
        ({"heads": {}}, ValueError, "`heads` must be a dict of output name -> head"),
        ({"heads": [HEADS["kind"]]}, ValueError, "`heads` must be a dict.*Received"),
        ({"heads": {"kind": "classifier"}}, TypeError, "head 'kind' must be a layer"),
        ({"heads": {"kind": mk.heads.Classifier}}, TypeError, "head 'kind' must be a layer"),
        ({"heads": {"my_text": HEADS["kind"]}}, ValueError, "must not have the name of a mod"),
        ({"heads": {"a b": HEADS["kind"]}}, ValueError, "A head's name must be a Python"),
        ({"heads": {"kind_mask": HEADS["kind"]}}, ValueError, "A head's name must be a Python"),
        ({"hidden_dim": 0}, ValueError, "`hidden_dim` must be a whole number"),
        ({"dropout": 2.0}, ValueError, "`dropout` must lie between"),
    ],
)  # fmt: skip
def test_wrong_arguments(change, error, text):
    with pytest.raises(error, match=text):
        build(("text", "vector"), **change)


@pytest.mark.parametrize(
    ("specs", "error", "text"),
    [
        ({}, ValueError, "at least one modality"),
        ("image", ValueError, "`modalities` must be a dict of name -> spec"),
        ({"x": "image"}, TypeError, "'x' must be a spec such as mk.Image.*Received: 'image'"),
        ({"x": mk.Image}, TypeError, "'x' must be a spec such as mk.Image"),
        (["x"], TypeError, "must be .*spec such as mk.Image"),
        ({"x_mask": SPECS["vector"]}, ValueError, "does not end in '_mask'"),
        ({"x": mk.Text(length=3)}, ValueError, "'x' must be adapted"),
        ({"x": mk.Image(size=4)}, ValueError, "too small for 4 stages"),
    ],
)
def test_wrong_modalities(specs, error, text):
    with pytest.raises(error, match=text):
        mk.assemble(specs, heads=HEADS)


@pytest.mark.parametrize(
    ("specs", "heads", "twice"),
    [
        (("x",), {"fusion": HEADS["kind"]}, "fusion"),
        (("x",), {"x_mlp": HEADS["kind"]}, "x_mlp"),
        (("fusion",), HEADS, "fusion"),
        (("x", "x_mlp"), HEADS, "x_mlp"),
    ],
)
def test_two_parts_of_one_name_are_refused(specs, heads, twice):
    with pytest.raises(ValueError, match=f"Received twice: {twice}. Rename the modality or the he"):
        mk.assemble(dict.fromkeys(specs, SPECS["vector"]), heads=heads)


def test_a_built_head_keeps_its_name():
    """A head of another model may be shared, under its own name."""
    one = build(("vector",))
    head = one.get_layer("kind")
    assert build(("text",), heads={"kind": head}).get_layer("kind") is head
    with pytest.raises(ValueError, match="'answer' must be new or have this name.*built as 'kind'"):
        build(("text",), heads={"answer": head})


def wrong_mask(batch):
    return {**batch, "my_text_mask": batch["my_text_mask"][:, :4]}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (wrong_mask, r"The mask 'my_text_mask' must have the shape \(B, 6\).*Received: \(B, 4\)"),
        (
            lambda b: {**b, "my_text_mask": b["my_text_mask"][:, 0]},
            r"The mask 'my_text_mask' must have the shape \(B, 6\).*Received: \(B, \)",
        ),
        (
            lambda b: {**b, "my_vector": b["my_vector"][:, :3]},
            r"The value 'my_vector' must have the shape \(B, 7\).*Received: \(B, 3\)",
        ),
        (
            lambda b: {k: v for k, v in b.items() if k != "my_vector_mask"},
            "batch must hold 'my_vector_mask'.*Received.*An absent modality is zeros with a false",
        ),
    ],
    ids=["length", "rank", "width", "missing"],
)
def test_a_batch_of_other_shapes_is_refused(wrong, text):
    model = build(("text", "vector"))
    model.compile("sgd", jit=False)
    with pytest.raises(ValueError, match=text):
        model.fit(wrong(batch_of(model)), truth_of(), verbose=0)
