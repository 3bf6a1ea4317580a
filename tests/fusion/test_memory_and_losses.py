"""What memory fusion does with steps, and shared_private with its losses, beyond the contract."""

import numpy as np
import pytest

from mmkeras.fusion import MemoryFusion, SharedPrivateFusion
from tests import contract
from tests.fusion.inputs import NAMES, random_inputs

B, T, D = 4, 5, 7


def sequences(rng, lengths):
    return {
        m: {
            "tokens": rng.standard_normal((B, length, D)).astype("float32"),
            "mask": np.ones((B, length), bool),
        }
        for m, length in lengths.items()
    }


def made(cls, inputs, **kwargs):
    layer = cls(list(inputs), hidden_dim=8, **kwargs)
    layer(inputs)
    contract.randomize(layer.weights)
    return layer


def test_a_step_without_anything_is_as_if_it_were_not_there(rng):
    inputs = sequences(rng, {"a": T, "b": T})
    layer = made(MemoryFusion, inputs)
    short = {m: {k: np.delete(v, 2, axis=1) for k, v in p.items()} for m, p in inputs.items()}
    for part in inputs.values():
        part["mask"][:, 2] = False
    long, short = contract.as_numpy(layer(inputs)), contract.as_numpy(layer(short))
    contract.assert_close(long["pooled"], short["pooled"], 1e-6)
    contract.assert_close(np.delete(long["tokens"], 2, axis=1), short["tokens"], 1e-6)
    assert not long["tokens"][:, 2].any() and not long["mask"][:, 2].any()


def test_one_token_is_read_at_every_step(rng):
    inputs = sequences(rng, {"a": T, "b": 1})
    layer = made(MemoryFusion, inputs)
    often = {k: np.repeat(v, T, axis=1) for k, v in inputs["b"].items()}
    contract.assert_close(layer({**inputs, "b": often}), layer(inputs), 1e-6)


def test_sequences_must_be_aligned(rng):
    with pytest.raises(ValueError, match=r"takes aligned sequences.*Received: .*'a': 5, 'b': 3"):
        MemoryFusion(["a", "b"])(sequences(rng, {"a": 5, "b": 3}))


def losses_of(layer, inputs):
    layer(inputs)
    return np.array([float(loss) for loss in layer.losses])


def test_losses_are_means_over_the_samples(rng):
    inputs = random_inputs(rng)
    layer = made(SharedPrivateFusion, inputs)
    whole = losses_of(layer, inputs)
    assert whole.shape == (3,) and (whole > 0).all()
    parts = [
        losses_of(layer, {m: {k: v[i : i + 1] for k, v in p.items()} for m, p in inputs.items()})
        for i in range(5)
    ]
    np.testing.assert_allclose(np.mean(parts, axis=0), whole, atol=1e-6)
    assert not parts[1].any()  # all absent


def test_weights_of_losses(rng):
    inputs = random_inputs(rng)
    layer = made(SharedPrivateFusion, inputs)
    twice = SharedPrivateFusion(NAMES, hidden_dim=8, similarity=2.0, difference=0.6)
    twice(inputs)
    twice.set_weights(layer.get_weights())
    expected = losses_of(layer, inputs) * [2.0, 2.0, 1.0]
    np.testing.assert_allclose(losses_of(twice, inputs), expected, rtol=1e-5)
    none = SharedPrivateFusion(NAMES, similarity=0, difference=0, reconstruction=0)
    none(inputs)
    assert none.losses == []
    assert not any("decoder" in v.path for v in none.trainable_variables)
    with pytest.raises(ValueError, match="`similarity` must lie between.*Received"):
        SharedPrivateFusion(NAMES, similarity=-1)
