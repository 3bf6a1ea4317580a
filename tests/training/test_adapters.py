"""LoRA and DoRA: the formulas, what trains, the file of the adapters, merging, exporting."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.layers import low_rank
from mmkeras.training import private
from tests import contract

SPECS = {
    "text": mk.Text(length=5, vocabulary=("[PAD]", "[UNK]", "a", "b", "c", "d")),
    "numbers": mk.Vector(size=3, normalize=False),
}
QUERIES = ["text_block0/query", "fusion/block0/query"]
PATTERNS = ["*/query", "*/value", "numbers_dense0", "text_embedding"]
KINDS = pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])


def build(seed=0):
    keras.utils.set_random_seed(seed)
    encoders = {"text": {"name": "transformer", "hidden_dim": 8, "num_layers": 1, "dropout": 0.0}}
    heads = {"label": mk.heads.Classifier(("x", "y"))}
    return mk.assemble(SPECS, encoders, "late_transformer", heads, hidden_dim=8)


def batch(seed=0, count=6):
    rng = np.random.default_rng(seed)
    x = {
        "text": rng.integers(2, 6, (count, 5)).astype("int32"),
        "text_mask": np.arange(5) < rng.integers(1, 6, (count, 1)),
        "numbers": rng.normal(size=(count, 3)).astype("float32"),
        "numbers_mask": np.arange(count) % 3 > 0,
    }
    return x, {"label": np.arange(count) % 2}


def outputs(model):
    return contract.as_numpy(model(contract.tensors(batch()[0])))["label"]


def rows():
    return tf.data.Dataset.from_tensor_slices(batch()).batch(6)


def randomized(model):
    """The adapters as if they had been trained."""
    contract.randomize([w for w in model.weights if "/lora_" in w.path])
    return model


# The formulas -----------------------------------------------------------------------------------


def numpy_kernel(layer, inner):
    """The matrix (inputs, outputs) of an adapted layer by the papers."""
    w, a, b = (layer.weights[0].numpy(), layer.lora_a.numpy(), layer.lora_b.numpy())
    about = layer.low_rank
    v = w.reshape(inner, -1).astype("float64") + a @ b * about.alpha / about.rank
    if about.dora:
        v = layer.lora_magnitude.numpy() * v / np.sqrt((v**2).sum(axis=0))
    return v


def layers(rng):
    """Layers, an input, the number of input axes of the kernel, and NumPy's way of calling."""
    x, heads = rng.normal(size=(3, 5, 7)), rng.normal(size=(3, 5, 2, 4))
    ids = rng.integers(0, 9, (3, 5))
    yield keras.layers.Dense(4), x, 7, lambda k: x @ k
    query = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 4))
    yield query, x, 7, lambda k: (x @ k).reshape(3, 5, 2, 4)
    output = keras.layers.EinsumDense("abcd,cde->abe", (None, 6))
    yield output, heads, 8, lambda k: heads.reshape(3, 5, 8) @ k
    turned = keras.layers.EinsumDense("...x,yx->...y", 6)
    yield turned, x, None, None
    yield keras.layers.Embedding(9, 6), ids, 9, lambda k: k[ids]


@KINDS
def test_numpy_parity(dora, rng):
    for layer, x, inner, call in layers(rng):
        x = x.astype("int32" if x.dtype.kind == "i" else "float32")
        before = layer(x).numpy()
        with private.unlocked(layer):
            low_rank.adapt(layer, rank=2, alpha=3.0, dora=dora)
        np.testing.assert_allclose(layer(x), before, atol=2e-6)
        contract.randomize(low_rank.own(layer))
        found = layer(x).numpy()
        if inner is None:  # a kernel (outputs, inputs)
            plain = keras.layers.EinsumDense("...x,xy->...y", 6)
            plain.build(x.shape)
            plain.weights[0].assign(layer.weights[0].numpy().T)
            with private.unlocked(plain):
                low_rank.adapt(plain, rank=2, alpha=3.0, dora=dora)
            for mine, other in zip(low_rank.own(layer), low_rank.own(plain), strict=True):
                other.assign(mine)
            np.testing.assert_allclose(found, plain(x), atol=1e-6)
        else:
            np.testing.assert_allclose(found, call(numpy_kernel(layer, inner)), atol=3e-6)
        assert np.abs(found - before).max() > 0.1
        low_rank.plain(layer)
        np.testing.assert_allclose(layer(x), found, atol=1e-6)
        assert not low_rank.own(layer) and not isinstance(layer, low_rank.LowRank)


def test_the_gradient_of_dora_takes_the_norm_as_a_constant(rng):
    """Liu et al. 2024, equation 11: dL/dV = m / ||V|| dL/dW'."""
    layer = keras.layers.Dense(4, use_bias=False)
    x = rng.normal(size=(3, 7)).astype("float32")
    layer(x)
    with private.unlocked(layer):
        low_rank.adapt(layer, rank=2, alpha=2.0, dora=True)
    contract.randomize(low_rank.own(layer))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(x)))
    a, b = layer.lora_a.numpy(), layer.lora_b.numpy()
    v = layer.weights[0].numpy() + a @ b
    norm = np.sqrt((v**2).sum(axis=0))
    outer = x.T @ (2 * layer(x).numpy()) * layer.lora_magnitude.numpy() / norm
    np.testing.assert_allclose(tape.gradient(loss, layer.lora_a.value), outer @ b.T, atol=1e-4)


# On a model -------------------------------------------------------------------------------------


@KINDS
def test_only_adapters_and_named_parts_train(dora):
    model = build()
    before = outputs(model)
    paths = mk.training.lora(model, PATTERNS, rank=2, dora=dora, train=["label/*"])
    assert {*QUERIES, "numbers_dense0", "text_embedding"} < set(paths)
    np.testing.assert_allclose(outputs(model), before, atol=2e-6 if dora else 0.0)
    randomized(model)
    _, grads = contract.gradients(
        lambda: model(contract.tensors(batch()[0])), model.trainable_variables
    )
    assert all(np.isfinite(g).all() and np.any(g) for g in grads.values())
    model.compile(keras.optimizers.SGD(0.1), jit=False)
    held = {w.path: w.numpy() for w in model.weights}
    model.fit(rows(), epochs=1, verbose=0)
    moved = {w.path for w in model.weights if not np.array_equal(held[w.path], w.numpy())}
    expected = {w for w in held if "/lora_" in w or w.startswith("label/")}
    assert moved == expected == {w.path for w in model.trainable_weights}
    assert {f"{path}/lora_a" for path in paths} < moved


def test_xla_and_low_precision():
    model = randomized(_adapted())
    compiled = tf.function(lambda b: model(b), jit_compile=True, autograph=False)
    x = contract.tensors(batch()[0])
    contract.assert_close(compiled(x), model(x), 1e-5)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    for dora in (False, True):
        low = _adapted(dora)
        held = {w.path: w for w in model.weights}
        for weight in low.weights:
            weight.assign(held.get(weight.path, weight))
        assert {w.dtype for w in low.trainable_weights} == {"float32"}
        if not dora:
            contract.assert_close(low(x), model(x), 0.15)
        _, grads = contract.gradients(lambda m=low: m(x), low.trainable_variables)
        assert all(np.isfinite(g).all() and np.any(g) for g in grads.values())


def _adapted(dora=False, **kwargs):
    model = build()
    mk.training.lora(model, PATTERNS, rank=2, dora=dora, **kwargs)
    return model


@KINDS
def test_saved_alone_and_loaded(dora, tmp_path):
    model = randomized(_adapted(dora, train=["label/*"], alpha=4.0))
    contract.randomize(model.trainable_weights)
    file = mk.training.save_adapters(model, tmp_path / "new" / "a.npz")
    assert [p.name for p in file.parent.iterdir()] == ["a.npz"]
    model.save_weights(tmp_path / "all.weights.h5")
    for other in (build(), _adapted(dora, train=["label/*"], alpha=4.0)):
        assert not np.allclose(outputs(other), outputs(model), atol=1e-2)
        paths = mk.training.load_adapters(other, file)
        assert "numbers_dense0" in paths
        contract.assert_same_bits(outputs(other), outputs(model))
        assert [w.path for w in other.trainable_weights] == [
            w.path for w in model.trainable_weights
        ]


def test_a_file_of_another_model_is_refused(tmp_path):
    model = randomized(_adapted())
    file = mk.training.save_adapters(model, tmp_path / "a.npz")
    other = build(seed=1)
    before = other.get_weights()
    with pytest.raises(
        ValueError, match="Adapters belong to the weights.*has another kernel there"
    ):
        mk.training.load_adapters(other, file)
    contract.assert_same_bits(other.get_weights(), before)
    with pytest.raises(ValueError, match=r"must be those of the file. Received: .*'rank': 2"):
        wider = build()
        mk.training.lora(wider, PATTERNS, rank=3)
        mk.training.load_adapters(wider, file)
    mk.training.merge_adapters(model)
    with pytest.raises(ValueError, match="has another kernel there"):  # else it would count twice
        mk.training.load_adapters(model, file)
    (tmp_path / "b.npz").write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="read from what mk.training.save_adapters wrote"):
        mk.training.load_adapters(build(), tmp_path / "b.npz")
    with pytest.raises(ValueError, match="saved to a .npz file"):
        mk.training.save_adapters(_adapted(), tmp_path / "a.h5")


@KINDS
def test_merged_saved_and_exported_are_one(dora, tmp_path):
    model = randomized(_adapted(dora))
    expected = outputs(model)
    model.save(tmp_path / "before.keras")
    mk.export.saved_model(model, SPECS, tmp_path / "before", signatures=("serving_default",))
    plain = build()
    assert mk.training.merge_adapters(model)
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    np.testing.assert_allclose(outputs(model), expected, atol=3e-6)
    model.save(tmp_path / "after.keras")
    mk.export.saved_model(model, SPECS, tmp_path / "after", signatures=("serving_default",))
    for name in ("before", "after"):
        loaded = keras.models.load_model(tmp_path / f"{name}.keras")
        assert [w.path for w in loaded.weights] == [w.path for w in plain.weights]
        np.testing.assert_allclose(outputs(loaded), expected, atol=3e-6)
        mk.training.lora(loaded, PATTERNS, rank=2, dora=dora)  # adapted anew
        request = {"text": ["a b c", "d"], "numbers": np.ones((2, 3), "float32")}
        answer = mk.export.ask(str(tmp_path / name), request)["label"]
        first = answer if name == "before" else first  # noqa: F821
        np.testing.assert_allclose(answer, first, atol=3e-6)


def test_misuse_is_refused(tmp_path):
    model = build()
    with pytest.raises(TypeError, match=r"`patterns` must be a list.*Write \['fusion'\]"):
        mk.training.lora(model, "fusion")
    with pytest.raises(ValueError, match="'fussion/.' must match at least one.*Did you mean"):
        mk.training.lora(model, ["fussion/*"])
    with pytest.raises(ValueError, match="`rank` must be a whole number"):
        mk.training.lora(model, rank=0)
    with pytest.raises(ValueError, match="must have adapters"):
        mk.training.merge_adapters(model)
    assert len(model.trainable_weights) == len(model.weights)  # nothing happened
    model.compile("sgd", jit=False)
    with pytest.warns(UserWarning, match=r"call compile\(...\) again"):
        mk.training.lora(model, rank=2)
    with pytest.raises(ValueError, match="takes adapters once"):
        mk.training.lora(model)
    build().save_weights(tmp_path / "m.weights.h5")
    with pytest.raises(ValueError, match="loaded into plain layers only.*merge_adapters"):
        model.load_weights(tmp_path / "m.weights.h5")
