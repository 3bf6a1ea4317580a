"""The simple, gated, attention and token fusions beyond the contract: arguments, single vectors."""

import numpy as np
import pytest

from mmkeras.fusion import FUSIONS
from mmkeras.fusion.transformer import TransformerFusion
from tests import contract
from tests.fusion.inputs import HIDDEN, LENGTHS, NAMES, random_inputs, unit

TRANSFORMERS = [name for name, cls in FUSIONS.items() if issubclass(cls, TransformerFusion)]


@pytest.mark.parametrize("name", [*TRANSFORMERS, "co_attention", "hierarchical_attention"])
def test_attention_over_single_vectors_trains(name, monkeypatch):
    """Without a learned token that is always there a softmax over one vector would be 1."""
    for modality in NAMES:
        monkeypatch.setitem(LENGTHS, modality, 1)
    contract.gradient(unit(FUSIONS[name]), None)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_num_heads_must_divide_the_width(name):
    layer = FUSIONS[name](NAMES, hidden_dim=HIDDEN, num_heads=3)
    with pytest.raises(ValueError, match="`num_heads` must divide the token width"):
        layer(random_inputs(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("attention_pooling", {"num_queries": 0}, "`num_queries` must be a whole number of at"),
        ("bottleneck", {"fusion_layer": 1}, "at most `num_layers` - 2.*Received: fusion_layer=1"),
        ("bottleneck", {"fusion_layer": -1}, "`fusion_layer` must be a whole number of at least 0"),
        ("bottleneck", {"num_layers": 1}, "one layer writes.*the next one reads"),
        ("bottleneck", {"num_bottlenecks": 0}, "`num_bottlenecks` must be a whole number"),
        ("deep_sets", {"intermediate_dim": -1}, "`intermediate_dim` must be a whole number"),
        ("highway", {"num_layers": 0}, "`num_layers` must be a whole number"),
        ("mid_transformer", {"fusion_layer": 0}, "`fusion_layer` must be a whole number of at"),
        ("mid_transformer", {"fusion_layer": 2}, "below `num_layers`.*Received: fusion_layer=2"),
        ("mlp", {"num_layers": 0}, "`num_layers` must be a whole number"),
        ("mult", {"memory_layers": 0}, "`memory_layers` must be a whole number"),
        ("perceiver_resampler", {"num_latents": 0}, "`num_latents` must be a whole number"),
        ("q_former", {"num_queries": 1}, "`num_queries` must be a whole number of at least 2"),
        ("q_former", {"cross_every": 0}, "`cross_every` must be a whole number"),
        ("squeeze_excitation", {"ratio": 0}, "`ratio` must be a whole number"),
    ],
)
def test_own_arguments_are_checked(name, arguments, text):
    with pytest.raises(ValueError, match=text):
        FUSIONS[name](NAMES, **arguments)


def test_a_sequence_is_permuted_with_its_positions():
    """An early transformer knows the order of tokens, a late one does not."""
    inputs = random_inputs(np.random.default_rng(0))
    turned = {**inputs["image"], "tokens": inputs["image"]["tokens"][:, ::-1]}
    for name, same in (("early_transformer", False), ("late_transformer", True)):
        layer = FUSIONS[name](NAMES, hidden_dim=HIDDEN)
        layer(inputs)
        contract.randomize(layer.weights)
        one, two = (
            contract.as_numpy(layer(each))["pooled"][0]
            for each in (inputs, {**inputs, "image": turned})
        )
        assert np.allclose(one, two, atol=1e-5) is same


def test_absent_modalities_are_no_members_of_the_set():
    """The pooled vector of deep sets is that of the same layer's sum over the present ones."""
    layer = FUSIONS["deep_sets"](NAMES, hidden_dim=HIDDEN)
    inputs = random_inputs(np.random.default_rng(0))
    layer(inputs)
    contract.randomize(layer.weights)
    out = contract.as_numpy(layer(inputs))
    present = np.stack([inputs[m]["mask"].any(axis=1) for m in NAMES], axis=1)
    present[~present.any(axis=1)] = True
    assert np.array_equal(out["mask"], present)
    assert not present[2].all()
    layer.absent_tokens["image"].token.assign_add(np.ones((1, 1, HIDDEN)))
    assert np.array_equal(contract.as_numpy(layer(inputs))["pooled"][2], out["pooled"][2])
