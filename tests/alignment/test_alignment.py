"""Every alignment of `ALIGNMENTS` under the mask contract, and in `assemble`."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.alignment import ALIGNMENTS
from tests import contract
from tests.fusion.inputs import HIDDEN, LENGTHS, NAMES, random_inputs

every_alignment = pytest.mark.parametrize("name", ALIGNMENTS)
FILLS = (0.5, 3e38, np.nan, np.inf)


def inputs(rng, levels=True):
    """Tokens and masks of three modalities; the picture has two levels besides."""
    given = random_inputs(rng)
    if levels:
        given["image"] = {
            **given["image"],
            "levels": {
                layer: {
                    "tokens": rng.standard_normal((5, length, width)).astype("float32"),
                    "mask": np.repeat(given["image"]["mask"][:, :1], length, axis=1),
                }
                for layer, length, width in (("relu1", 4, 3), ("relu0", 2, 6))
            },
        }
    return given


def refill(part, value):
    out = {k: refill(v, value) if isinstance(v, dict) else v for k, v in part.items()}
    if "mask" in out:
        out["tokens"] = np.where(out["mask"][..., None], out["tokens"], np.float32(value))
    return out


def unit(name):
    return contract.Unit(
        lambda **kw: ALIGNMENTS[name](NAMES, hidden_dim=HIDDEN, **kw), lambda rng: (inputs(rng),)
    )


def built(name, given, **kwargs):
    layer = ALIGNMENTS[name](NAMES, hidden_dim=HIDDEN, name="unit", **kwargs)
    layer(given)
    contract.randomize(layer.trainable_variables)
    return layer


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda c: c.__name__)
@every_alignment
def test_contract(name, check, tmp_path):
    check(unit(name), tmp_path)


@every_alignment
def test_content_behind_a_false_mask_changes_no_bit(name):
    given = inputs(np.random.default_rng(0))
    layer = built(name, given)
    out, grads = contract.gradients(
        lambda: layer(contract.tensors(given)), layer.trainable_variables
    )
    for m in NAMES:
        found = contract.as_numpy(out[m])
        assert np.isfinite(found["tokens"]).all() and not found["tokens"][~found["mask"]].any()
        assert np.any(found["tokens"][found["mask"]] != 0.0, axis=-1).all()
    for value in FILLS:
        filled = contract.tensors(refill(given, value))
        found = contract.gradients(lambda f=filled: layer(f), layer.trainable_variables)
        contract.assert_same_bits(found[0], out)
        contract.assert_same_bits(found[1], grads)


@every_alignment
def test_levels_are_read_by_multi_scale_alone(name):
    given = inputs(np.random.default_rng(1))
    out = contract.as_numpy(built(name, given)(given))
    wide = {"image": LENGTHS["image"] + 6} if name == "multi_scale" else {}
    assert {m: part["tokens"].shape for m, part in out.items()} == {
        m: (5, {**LENGTHS, **wide}[m], HIDDEN) for m in NAMES
    }
    plain = inputs(np.random.default_rng(1), levels=False)
    assert built(name, plain)(plain)["image"]["tokens"].shape == (5, LENGTHS["image"], HIDDEN)


def gelu(x):
    from scipy.special import erf

    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def test_numpy_parity():
    given = inputs(np.random.default_rng(2))
    for name in ALIGNMENTS:
        layer = built(name, given)
        w = {v.path.removeprefix("unit/"): v.numpy().astype("float64") for v in layer.weights}
        found = contract.as_numpy(layer(given))
        x, mask = (given["image"][key] for key in ("tokens", "mask"))
        if name == "nonlinear":
            x = gelu(x @ w["image_hidden/kernel"] + w["image_hidden/bias"])
            x = x @ w["image_out/kernel"] + w["image_out/bias"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
            x = x * w["image_norm/gamma"] + w["image_norm/beta"]
        else:
            x = x @ w["image/kernel"] + w["image/bias"]
        x = np.where(mask[..., None], x, 0.0)
        if name == "multi_scale":
            levels = given["image"]["levels"]
            lower = [
                np.where(
                    levels[k]["mask"][..., None],
                    levels[k]["tokens"] @ w[f"image_{k}/kernel"] + w[f"image_{k}/bias"],
                    0.0,
                )
                for k in ("relu0", "relu1")
            ]
            x = np.concatenate([*lower, x], axis=1)
            mask = np.concatenate([levels["relu0"]["mask"], levels["relu1"]["mask"], mask], axis=1)
        np.testing.assert_allclose(found["image"]["tokens"], x, atol=1e-5)
        np.testing.assert_array_equal(found["image"]["mask"], mask)


@every_alignment
def test_dropout_acts_only_in_training(name):
    given = inputs(np.random.default_rng(3))
    layer = built(name, given, dropout=0.5)
    contract.assert_same_bits(layer(given), layer(given, training=False))
    first, second = (contract.as_numpy(layer(given, training=True)) for _ in range(2))
    assert not np.array_equal(first["image"]["tokens"], second["image"]["tokens"])


# In a model -------------------------------------------------------------------------------------

SPECS = {
    "photo": mk.Image(size=16),
    "text": mk.Text(length=4, vocabulary=("[PAD]", "[UNK]", "a", "b")),
}
HEADS = {"label": ("x", "y")}


def assemble(alignment, **kwargs):
    encoders = {
        "photo": mk.encoders.levels({"name": "cnn", "filters": (8, 16)}, ("relu0",)),
        "text": mk.encoders.levels(
            {"name": "transformer", "hidden_dim": 8, "num_layers": 2, "dropout": 0.0}, ("block0",)
        ),
    }
    heads = {"label": mk.heads.Classifier(HEADS["label"])}
    return mk.assemble(
        SPECS, encoders, "concatenation", heads, alignment=alignment, hidden_dim=8, **kwargs
    )


def batch(count=4):
    rng = np.random.default_rng(0)
    return {
        "photo": rng.integers(0, 255, (count, 16, 16, 3)).astype("uint8"),
        "photo_mask": np.arange(count) % 2 > 0,
        "text": rng.integers(1, 4, (count, 4)).astype("int32"),
        "text_mask": np.arange(4) < rng.integers(0, 5, (count, 1)),
    }


@pytest.mark.parametrize("alignment", [None, *ALIGNMENTS])
def test_assembled_trained_and_loaded(alignment, tmp_path):
    model = assemble(alignment)
    paths = [v.path for v in model.weights if v.path.startswith("alignment/")]
    assert bool(paths) == (alignment is not None)
    if alignment == "multi_scale":
        found = {p.split("/")[1] for p in paths}
        assert found == {"photo", "photo_relu0", "text", "text_block0"}
    model.compile(keras.optimizers.SGD(0.1), jit=False)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.fit(batch(), {"label": np.arange(4) % 2}, batch_size=4, verbose=0)
    stuck = {p for p, old in before.items() if np.array_equal(old, _weight(model, p))}
    assert not stuck
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    contract.assert_same_bits(loaded(contract.tensors(batch())), model(contract.tensors(batch())))
    garbage = {**batch(), "photo": np.where(_wide(batch()), batch()["photo"], 77).astype("uint8")}
    contract.assert_same_bits(model(contract.tensors(garbage)), model(contract.tensors(batch())))


def _weight(model, path):
    return next(v.numpy() for v in model.weights if v.path == path)


def _wide(given):
    return given["photo_mask"][:, None, None, None]


def test_precision_of_the_fusion_is_that_of_the_alignment():
    model = assemble("linear", precision={"fusion": "mixed_bfloat16"})
    assert model.get_layer("alignment").compute_dtype == "bfloat16"


# Errors -----------------------------------------------------------------------------------------


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="Unknown alignment 'liner'.*Did you mean 'linear'"):
        assemble("liner")
    with pytest.raises(ValueError, match="'hidden_dim' must|`hidden_dim` must be a whole number"):
        mk.alignment.get("linear", ["a"], hidden_dim=0)
    layer = mk.alignment.get({"name": "nonlinear", "hidden_dim": 3}, ["a"], hidden_dim=9)
    assert layer.hidden_dim == 3 and mk.alignment.get(layer, ["a"]) is layer
    with pytest.raises(
        ValueError, match="must be called with 'tokens' and 'mask'.*Received for 'a"
    ):
        layer({"b": {"tokens": np.zeros((1, 2, 3)), "mask": np.ones((1, 2), bool)}})
    with pytest.raises(ValueError, match="`layers` must name layers of the encoder of 'p'.*relu1"):
        mk.encoders.levels({"name": "cnn", "filters": (8, 8)}, ("relu9",))("p", mk.Image(size=8))
    with pytest.raises(ValueError, match="A level must be a sequence"):
        mk.encoders.levels("mlp", ("dense0",))("v", mk.Vector(size=3, normalize=False))
    heads = {"alignment": mk.heads.Classifier(2)}
    with pytest.raises(ValueError, match="different names.*Received twice: alignment"):
        mk.assemble(SPECS, None, "concatenation", heads, alignment="linear")


def test_levels_of_a_sound_have_its_mask():
    spec = mk.Audio(rate_hz=1000, seconds=0.335, num_bands=8)
    encoder = mk.encoders.levels({"name": "cnn", "filters": (8, 16)}, ("relu0",))("s", spec)
    level, whole = encoder.output["levels"]["relu0"], encoder.output
    assert level["tokens"].shape[1] == level["mask"].shape[1] == 17
    assert whole["mask"].shape[1] == 9
