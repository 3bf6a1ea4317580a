"""Borrowed backbones: freezing by inner layers, staged unfreezing, rates per part and per depth."""

import keras
import keras_hub
import numpy as np
import pytest

import mmkeras as mk
from tests import contract

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b")
LAYERS = [f"text_backbone/transformer_layer_{i}" for i in range(2)]
EMBEDDINGS = [
    *(f"text_backbone/{part}_embedding" for part in ("token", "position", "segment")),
    "text_backbone/embeddings_layer_norm",
]


def build():
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=7,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=5,
        dropout=0.0,
    )
    specs = {
        "text": mk.Text(length=5, vocabulary=WORDS),
        "numbers": mk.Vector(size=3, normalize=False),
    }
    heads = {"label": mk.heads.Classifier(("x", "y"))}
    encoders = {"text": mk.encoders.pretrained(backbone)}
    return mk.assemble(specs, encoders, "concatenation", heads, hidden_dim=4)


def batch(count=6):
    rng = np.random.default_rng(0)
    x = {
        "text": rng.integers(0, 7, (count, 5)).astype("int32"),
        "text_mask": np.arange(5) < rng.integers(1, 6, (count, 1)),
        "numbers": rng.normal(size=(count, 3)).astype("float32"),
        "numbers_mask": np.arange(count) % 3 > 0,
    }
    return x, {"label": np.arange(count) % 2}


def moved(model, **kwargs):
    """The paths of what one epoch changes."""
    before = {v.path: v.numpy() for v in model.weights}
    x, y = batch()
    model.fit(x, y, batch_size=6, verbose=0, **kwargs)
    return {v.path for v in model.weights if not np.array_equal(v.numpy(), before[v.path])}


def test_inner_layers_of_a_backbone_are_frozen_and_stay_so(tmp_path):
    model = build()
    names = mk.training.freeze(model, ["text_backbone/*embedding*", "*_layer_0"])
    assert sorted(names) == sorted([*EMBEDDINGS, LAYERS[0]])
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    found = moved(model)
    assert not any(path.startswith(tuple(names)) for path in found)
    assert any(path.startswith(LAYERS[1]) for path in found)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [v.path for v in loaded.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]
    contract.assert_same_bits(
        loaded(contract.tensors(batch()[0])), model(contract.tensors(batch()[0]))
    )


def test_staged_unfreezing_opens_group_after_group():
    model = build()
    groups = [["fusion", "label"], [LAYERS[1]], ["*"]]
    held = []
    for epoch, names in enumerate(mk.training.stages(model, groups)):
        model.compile(keras.optimizers.SGD(0.5), jit=False)
        found = moved(model, initial_epoch=epoch, epochs=epoch + 1)
        held.append({path.rpartition("/")[0].split("/self")[0].split("/feed")[0] for path in found})
        assert all(path.startswith(tuple(names)) for path in found)
    assert not any(name.startswith("text_backbone") for name in held[0]) and held[0]
    assert LAYERS[1] in held[1] and LAYERS[0] not in held[1] and not held[1] & set(EMBEDDINGS)
    assert {*LAYERS, "numbers_dense0"} < held[2]
    with pytest.raises(ValueError, match="'fussion' must match"):
        next(mk.training.stages(model, [["label"], ["fussion"]]))
    assert len(model.trainable_variables) == len(model.weights)  # nothing happened


def step_sizes(optimizer):
    """How far one step of sign descent moves the largest entry of every weight."""
    keras.utils.set_random_seed(0)
    model = build()
    model.compile(optimizer, jit=False)
    before = {v.path: v.numpy() for v in model.trainable_variables}
    x, y = batch()
    model.fit(x, y, batch_size=6, verbose=0)
    return {v.path: np.abs(v.numpy() - before[v.path]).max() for v in model.trainable_variables}


def test_rates_by_part_and_by_depth():
    """Lion moves each entry by its rate, whatever the gradient."""
    rates = {"text_backbone/*": 0.1}
    sizes = step_sizes(mk.training.optimizer("lion", 1e-2, rates=rates, weight_decay=0.0))
    for path, size in sizes.items():
        if size > 0 and "key/bias" not in path:
            share = 0.1 if path.startswith("text_backbone/") else 1.0
            np.testing.assert_allclose(size, 1e-2 * share, rtol=2e-3, err_msg=path)
    sizes = step_sizes(mk.training.optimizer("lion", 1e-2, layer_decay=0.5, weight_decay=0.0))
    depths = {LAYERS[1]: 1, LAYERS[0]: 2, **dict.fromkeys(EMBEDDINGS, 3)}
    for path, size in sizes.items():
        if size > 0 and "key/bias" not in path:
            depth = next((n for start, n in depths.items() if path.startswith(start + "/")), 0)
            np.testing.assert_allclose(size, 1e-2 * 0.5**depth, rtol=2e-3, err_msg=path)


def test_adapters_in_a_backbone(tmp_path):
    model = build()
    paths = mk.training.lora(model, ["text_backbone/*/query"], rank=2, train=["label/*"])
    assert paths == [f"{layer}/self_attention_layer/query" for layer in LAYERS]
    model.compile(keras.optimizers.SGD(0.5), jit=False)
    assert all("/lora_" in path or path.startswith("label/") for path in moved(model))
    expected = contract.as_numpy(model(contract.tensors(batch()[0])))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    contract.assert_close(loaded(contract.tensors(batch()[0])), expected, 1e-6)
    mk.training.merge_adapters(model)
    contract.assert_close(model(contract.tensors(batch()[0])), expected, 1e-6)
