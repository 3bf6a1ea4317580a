"""Every fusion of `FUSIONS`, present and future, and a user's own, under the mask contract."""

import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.fusion import FUSIONS
from mmkeras.layers import masked_mean
from tests import contract
from tests.fusion.inputs import HIDDEN, LENGTHS, NAMES, random_inputs, refill, unit


def example():
    """The fusion of a user, as the docstring of `mmkeras/fusion/base.py` shows it."""
    text = textwrap.dedent(mk.fusion.base.__doc__.split(":\n\n", 1)[1])
    scope = {"__name__": __name__, "mk": mk, "keras": keras, "masked_mean": masked_mean}
    exec(text, scope)  # noqa: S102
    return scope["AverageFusion"]


AverageFusion = example()
CLASSES = {**FUSIONS, "own": AverageFusion}
every_fusion = pytest.mark.parametrize("name", CLASSES)

FILLS = {
    "random": lambda shape: np.random.default_rng(9).standard_normal(shape),
    "huge": lambda shape: np.full(shape, 3e38),
    "nan": lambda shape: np.full(shape, np.nan),
    "inf": lambda shape: np.where(np.arange(shape[-1]) % 2, np.inf, -np.inf) + np.zeros(shape),
}


def allowed(cls, names):
    """Whether a fusion takes these modalities: some need two, and one of them steps."""
    if cls is mk.fusion.MemoryFusion and names == ("numbers",):
        return False
    if len(names) > 1:
        return True
    try:
        cls(names)
    except ValueError as error:
        assert "two modalities" in str(error)
        return False
    return True


@contract.made_once
def built(cls, names=NAMES, **kwargs):
    """A fusion with random weights, so that nothing is hidden by zeros."""
    layer = cls(names, hidden_dim=HIDDEN, name="unit", **kwargs)
    layer(random_inputs(np.random.default_rng(0), names))
    contract.randomize(layer.trainable_variables)
    return layer


def cases(cls):
    """Layers and inputs: random subsets of modalities in random order, batch sizes, masks."""
    for seed, (size, batch) in enumerate([(3, 5), (2, 1), (3, 2), (1, 3), (2, 4)]):
        rng = np.random.default_rng(seed)
        names = tuple(str(m) for m in rng.permutation(NAMES)[:size])
        if allowed(cls, names):
            inputs = random_inputs(rng, names, batch, special=batch > 2)
            yield built(cls, names), inputs


# The shared harness -----------------------------------------------------------------------------


# `jit` begins `test_content_behind_a_false_mask_under_xla`, which goes on with what it compiled.
CHECKS = [check for check in contract.CHECKS if check is not contract.jit]


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@every_fusion
def test_contract(name, check, tmp_path):
    check(unit(CLASSES[name]), tmp_path)


@pytest.mark.parametrize("names", [("text", "image"), ("text",)], ids=len)
@every_fusion
def test_contract_of_fewer_modalities(name, names, tmp_path):
    cls = CLASSES[name]
    if not allowed(cls, names):
        with pytest.raises(ValueError, match=r"Received: \('text',\). With one, use '\w+'"):
            cls(names)
        return
    for check in (contract.config, contract.output_spec, contract.dict_order):
        check(unit(cls, names), tmp_path)
    for check in (contract.gradient, contract.saving):
        check(unit(cls, names), tmp_path)


# The mask contract ------------------------------------------------------------------------------


@every_fusion
def test_content_behind_a_false_mask_changes_no_bit(name):
    for layer, inputs in cases(CLASSES[name]):
        tensors = contract.tensors(inputs)
        both = lambda t: (layer(t), layer.losses)  # noqa: B023, E731
        expected = contract.gradients(lambda t=tensors: both(t), layer.trainable_variables)  # noqa: B023
        for fill in FILLS.values():
            garbage = contract.tensors(refill(inputs, fill))
            assert any(
                not np.array_equal(garbage[m]["tokens"], inputs[m]["tokens"]) for m in inputs
            ) or all(part["mask"].all() for part in inputs.values())
            found = contract.gradients(lambda t=garbage: both(t), layer.trainable_variables)  # noqa: B023
            contract.assert_same_bits(found[0], expected[0])
            contract.assert_same_bits(found[1], expected[1])


@every_fusion
def test_no_gradient_flows_to_masked_content(name):
    layer = built(CLASSES[name])
    inputs = refill(random_inputs(np.random.default_rng(1)), FILLS["nan"])
    tokens = {m: tf.convert_to_tensor(part["tokens"]) for m, part in inputs.items()}
    with tf.GradientTape() as tape:
        tape.watch(tokens)
        outputs = layer({m: {"tokens": tokens[m], "mask": inputs[m]["mask"]} for m in inputs})
        loss = contract.weighted_sum(outputs)
    for m, gradient in tape.gradient(loss, tokens).items():
        mask = inputs[m]["mask"]
        assert np.all(gradient.numpy()[~mask] == 0.0)
        assert np.all(np.any(gradient.numpy()[mask] != 0.0, axis=-1)), f"{m} gives no gradient"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@every_fusion
def test_content_behind_a_false_mask_under_mixed_precision(name, policy):
    layer = built(CLASSES[name], dtype=policy)
    inputs = random_inputs(np.random.default_rng(2))
    expected = layer(inputs)
    for fill in FILLS.values():
        contract.assert_same_bits(layer(refill(inputs, fill)), expected)


@every_fusion
def test_content_behind_a_false_mask_under_xla(name):
    layer, compiled = contract.jit(unit(CLASSES[name]), None)
    contract.randomize(layer.trainable_variables)
    inputs = random_inputs(np.random.default_rng(3))
    expected = compiled(contract.tensors(inputs))
    contract.assert_close(expected, layer(inputs), 1e-5)
    for fill in FILLS.values():
        garbage = contract.tensors(refill(inputs, fill))
        contract.assert_same_bits(compiled(garbage), expected)
    assert compiled.experimental_get_tracing_count() == 1


@every_fusion
def test_output_mask_has_a_valid_token_and_zeros_behind_false(name):
    for layer, inputs in cases(CLASSES[name]):
        out = contract.as_numpy(layer(refill(inputs, FILLS["nan"])))
        lengths = {m: LENGTHS[m] for m in layer.modalities}
        assert out["mask"].shape[1] == layer.output_length(lengths)
        assert out["mask"].dtype == bool
        assert out["mask"].any(axis=1).all()
        assert np.all(out["tokens"][~out["mask"]] == 0.0)
        assert np.isfinite(out["tokens"]).all()
        assert np.isfinite(out["pooled"]).all()


@pytest.mark.parametrize("policy", contract.POLICIES)
@every_fusion
def test_all_absent_is_finite_and_learned(name, policy):
    layer = built(CLASSES[name], dtype=policy)
    inputs = random_inputs(np.random.default_rng(4))
    for part in inputs.values():
        part["mask"][:] = False
    before = contract.as_numpy(layer(refill(inputs, FILLS["nan"])))
    for path, value in contract.flat(before).items():
        assert np.isfinite(value).all(), path
        tolerance = 1e-5 if policy == "float32" else 0.1  # one matrix product, rows rounded apart
        contract.assert_close(value, np.repeat(value[:1], len(value), axis=0), tolerance)
    for m in NAMES:
        token = layer.absent_tokens[m].token
        old = token.numpy()
        token.assign(-old + 1.0)
        after = contract.as_numpy(layer(inputs))
        assert not np.array_equal(after["pooled"], before["pooled"]), f"{m}'s absent token is dead"
        token.assign(old)


@every_fusion
def test_absent_token_speaks_only_for_the_absent(name):
    layer = built(CLASSES[name])
    inputs = random_inputs(np.random.default_rng(5))
    before = contract.as_numpy(layer(inputs))
    for m in NAMES:
        token = layer.absent_tokens[m].token
        token.assign_add(np.ones(token.shape))
    after = contract.as_numpy(layer(inputs))
    contract.assert_same_bits(
        {k: v[:1] for k, v in after.items()}, {k: v[:1] for k, v in before.items()}
    )
    assert not np.array_equal(after["pooled"][1], before["pooled"][1])


@every_fusion
def test_samples_do_not_see_each_other(name):
    for layer, inputs in cases(CLASSES[name]):
        names, batch = tuple(inputs), len(next(iter(inputs.values()))["mask"])
        other = random_inputs(np.random.default_rng(77), names, batch, special=False)
        expected = contract.as_numpy(layer(inputs))
        for row in range(batch):
            mixed = {
                m: {
                    k: np.where((np.arange(batch) == row).reshape(-1, *[1] * (a.ndim - 1)), a, b)
                    for (k, a), b in zip(inputs[m].items(), other[m].values(), strict=True)
                }
                for m in names
            }
            found = contract.as_numpy(layer(mixed))
            alone = contract.as_numpy(
                layer({m: {k: v[row : row + 1] for k, v in p.items()} for m, p in inputs.items()})
            )
            want = {k: v[row : row + 1] for k, v in expected.items()}
            contract.assert_same_bits({k: v[row : row + 1] for k, v in found.items()}, want)
            contract.assert_close(alone, want, 1e-5)


@every_fusion
def test_every_modality_counts(name):
    layer = built(CLASSES[name])
    inputs = random_inputs(np.random.default_rng(6))
    before = contract.as_numpy(layer(inputs))["pooled"][0]
    for m in NAMES:
        changed = {**inputs, m: {**inputs[m], "tokens": inputs[m]["tokens"] + 1.0}}
        assert not np.allclose(contract.as_numpy(layer(changed))["pooled"][0], before, atol=1e-4)


@every_fusion
def test_dropout_acts_only_in_training(name):
    layer, plain = built(CLASSES[name], dropout=0.5), built(CLASSES[name])
    inputs = random_inputs(np.random.default_rng(7))
    plain.set_weights(layer.get_weights()[: len(plain.get_weights())])
    contract.assert_same_bits(layer(inputs), layer(inputs, training=False))
    contract.assert_same_bits(layer(inputs), plain(inputs))
    first, second = (contract.as_numpy(layer(inputs, training=True)) for _ in range(2))
    assert CLASSES[name] is AverageFusion or not np.array_equal(first["pooled"], second["pooled"])


# Errors -----------------------------------------------------------------------------------------


@every_fusion
def test_wrong_inputs_are_refused(name):
    layer = CLASSES[name](NAMES, hidden_dim=HIDDEN)
    inputs = random_inputs(np.random.default_rng(0))
    with pytest.raises(ValueError, match="one entry for each of its modalities.*Received"):
        layer({m: inputs[m] for m in NAMES[:2]})
    short = {**inputs["text"], "mask": inputs["text"]["mask"][:, :2]}
    with pytest.raises(ValueError, match=r"tokens of 'text' must be \(B, T, D\).*\(5, 3, 4\)"):
        layer({**inputs, "text": short})
    with pytest.raises(ValueError, match="'text' must hold 'tokens' and 'mask'"):
        layer({**inputs, "text": {"tokens": inputs["text"]["tokens"]}})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"modalities": "image"}, "must be a dict of name -> spec or a list of names"),
        ({"modalities": []}, "at least one modality"),
        ({"modalities": ["a", "a"]}, "each once"),
        ({"modalities": ["a", "b_mask"]}, "does not end in '_mask'"),
        ({"hidden_dim": 0}, "`hidden_dim` must be a whole number of at least 1"),
        ({"dropout": 1.5}, "`dropout` must lie between 0.0 and 1.0"),
    ],
)
@every_fusion
def test_wrong_arguments_are_refused(name, arguments, text):
    with pytest.raises(ValueError, match=text):
        CLASSES[name](**{"modalities": NAMES, **arguments})


def test_own_arguments_of_the_fusions_are_checked():
    for name, argument in (("cross_attention", "query"), ("film", "target")):
        with pytest.raises(ValueError, match=rf"`{argument}` must be one of .*Received.*'sound'"):
            FUSIONS[name](NAMES, **{argument: "sound"})
    for name in ("cross_attention", "late_transformer"):
        with pytest.raises(ValueError, match="`num_heads` must divide the token width"):
            built(FUSIONS[name], num_heads=3)


def test_a_fusion_without_fuse_says_so():
    with pytest.raises(TypeError, match="must define `fuse`. Received: Fusion.*See the example"):
        mk.fusion.Fusion(NAMES)


def test_a_wrong_output_length_is_refused():
    class Forgetful(mk.fusion.Fusion):
        """One token, but says one per modality."""

        def fuse(self, tokens, masks, present, training):
            """Returns one token."""
            pooled = masked_mean(tokens["image"], masks["image"])
            mask = keras.ops.ones_like(present[:, :1])
            return {"tokens": pooled[:, None], "mask": mask, "pooled": pooled}

    with pytest.raises(ValueError, match="`output_length`.*Received"):
        Forgetful(NAMES)(random_inputs(np.random.default_rng(0)))


# get --------------------------------------------------------------------------------------------


def test_cross_attention_to_one_token_trains_its_query():
    """Image + vector: without the learned context token the attention would be 1 whatever asks."""
    contract.gradient(unit(FUSIONS["cross_attention"], ("image", "numbers")), None)


def test_get_takes_name_config_and_instance():
    for name, cls in FUSIONS.items():
        assert type(mk.fusion.get(name, NAMES)) is cls
    layer = mk.fusion.get({"name": "gated", "hidden_dim": 3}, NAMES, hidden_dim=9, dropout=0.1)
    assert (layer.hidden_dim, layer.dropout) == (3, 0.1)
    assert mk.fusion.get(layer, NAMES) is layer


def test_get_names_the_nearest():
    with pytest.raises(ValueError, match="Unknown fusion 'gatted'.*Did you mean 'gated'"):
        mk.fusion.get("gatted", NAMES)
    with pytest.raises(TypeError, match="A fusion must be a name, a dict"):
        mk.fusion.get(3, NAMES)


def test_target_and_query_may_be_any_modality():
    inputs = random_inputs(np.random.default_rng(8))
    for name, argument in (("cross_attention", "query"), ("film", "target")):
        for m in NAMES:
            layer = built(FUSIONS[name], **{argument: m})
            assert layer(inputs)["tokens"].shape == (5, LENGTHS[m] + 1, HIDDEN)
