"""Encoders of tables, series and sequences of vectors: formulas, invariances, errors."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.encoders import series_patchtst, series_tcn, table_ft_transformer
from mmkeras.encoders.series_patchtst import ChannelPatches, JoinChannels
from mmkeras.encoders.series_tcn import VARIANTS as TCN
from mmkeras.encoders.steps import PoolSteps
from mmkeras.encoders.table_cells import FeatureTokenizer, TableFeatures
from mmkeras.encoders.table_ft_transformer import FirstToken
from tests import contract
from tests.contract import CHECKS, Unit
from tests.core.errors import says
from tests.encoders.inputs import SMALL, SPECS, random_batch, random_mask, random_value

SERIES, TABLE = SPECS["series"], SPECS["table"]
STEPS, CHANNELS = SERIES.shape


def of(modality, *more):
    """A random value (and mask) of a modality, as call arguments of a layer."""

    def make(rng):
        return (random_value(rng, modality, 5), random_mask(rng, modality, 5))[: len(more) or 2]

    return make


def cells(rng):
    """Cells of TABLE; every id occurs, so that every row of an embedding trains."""
    value, mask = random_value(rng, TABLE, 12), rng.random((12, 5)) < 0.8
    value[:, 3:] = np.arange(12)[:, None] % TABLE.sizes
    mask[:5] = True
    return value, mask


UNITS = {
    "table_features": Unit(lambda **kw: TableFeatures(3, TABLE.sizes, 4, **kw), cells),
    "feature_tokenizer": Unit(lambda **kw: FeatureTokenizer(3, TABLE.sizes, 4, **kw), cells),
    "cells_alone": Unit(
        lambda **kw: FeatureTokenizer(3, TABLE.sizes, 4, with_cls=False, **kw), cells
    ),
    "first_token": Unit(FirstToken, lambda rng: (rng.standard_normal((5, 4, 6)),)),
    "pool_steps": Unit(lambda **kw: PoolSteps(3, **kw), of(SERIES)),
    "join_channels": Unit(
        lambda **kw: JoinChannels(3, **kw), lambda rng: (rng.standard_normal((6, 4, 5)),)
    ),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("unit", UNITS)
def test_layers_contract(unit, check, tmp_path):
    if unit == "join_channels" and check in (contract.fit_step, contract.output_spec):
        return  # its rows are not those of the batch; whole models are tested with it
    check(UNITS[unit], tmp_path)


# Formulas -----------------------------------------------------------------------------------------


def weights_of(model):
    return {v.path: v.numpy().astype("float64") for v in model.weights}


def layer_norm(x, w, path):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * w[f"{path}/gamma"] + w[f"{path}/beta"]


def causal(x, kernel, dilation):
    """(T, C) * (k, C, F) -> (T, F), reading backwards in time."""
    taps = len(kernel)
    padded = np.concatenate([np.zeros(((taps - 1) * dilation, x.shape[1])), x])
    return sum(padded[i * dilation : i * dilation + len(x)] @ kernel[i] for i in range(taps))


def test_tcn_against_numpy():
    model = series_tcn("s", SERIES, filters=(4, 4), kernel_size=3)
    contract.randomize(model.trainable_variables)
    batch = random_batch("s", SERIES)
    w = weights_of(model)
    found = contract.as_numpy(model(contract.tensors(batch)))["tokens"]
    for row in range(5):
        real = batch["s_mask"][row][:, None]
        x = np.where(real, batch["s"][row], 0).astype("float64")
        for i in range(2):
            before = x
            for j in range(2):
                x = causal(x, w[f"s_conv{i}_{j}/kernel"], 2**i)
                x = np.maximum(layer_norm(x, w, f"s_norm{i}_{j}"), 0) * real
            if i == 0:
                before = before @ w["s_short0/kernel"] + w["s_short0/bias"]
            x = np.maximum(before + x, 0) * real
        np.testing.assert_allclose(found[row], x, atol=2e-5)


def test_tcn_sees_as_far_back_as_documented_and_nothing_ahead():
    modality = SERIES.replace(steps=40)
    model = series_tcn("s", modality, filters=(6, 6), kernel_size=4)
    contract.randomize(model.trainable_variables)
    field = 1 + 2 * (4 - 1) * (2**2 - 1)
    value = np.random.default_rng(0).standard_normal((1, 40, CHANNELS)).astype("float32")
    mask, place = np.ones((1, 40), bool), 15
    other = value.copy()
    other[0, place] += 1
    one, two = (
        contract.as_numpy(model({"s": v, "s_mask": mask})["tokens"]) for v in (value, other)
    )
    changed = np.flatnonzero(np.abs(one - two)[0].max(axis=1) > 1e-6)
    assert changed[0] == place and changed[-1] == place + field - 1


def test_pool_steps_against_numpy(rng):
    value, mask = rng.standard_normal((3, 7, 2)).astype("float32"), rng.random((3, 7)) < 0.6
    mask[1] = False
    found = contract.as_numpy(PoolSteps(3)(value, mask))
    for row in range(3):
        for token, steps in enumerate((range(3), range(3, 6), range(6, 7))):
            real = [value[row, t] for t in steps if mask[row, t]]
            np.testing.assert_allclose(
                found[row, token], np.mean(real, axis=0) if real else 0, atol=1e-6
            )


def test_patches_against_numpy(rng):
    value, mask = random_value(rng, SERIES, 4), random_mask(rng, SERIES, 4)
    layer = ChannelPatches(4, 3, 5)
    patches, rows, count = contract.as_numpy(layer(value, mask))
    kernel, bias = (v.numpy() for v in layer.project.weights)
    padded = np.pad(value, ((0, 0), (0, 2), (0, 0)))  # 11 steps -> 4 patches of 4 at 0 3 6 9
    assert patches.shape == (12, 4, 5) and rows.shape == (12, 4) and count.shape == (4, 4)
    for row, channel, n in np.ndindex(4, CHANNELS, 4):
        window = padded[row, 3 * n : 3 * n + 4, channel]
        np.testing.assert_allclose(
            patches[row * CHANNELS + channel, n], window @ kernel[:, 0] + bias, atol=1e-5
        )
        assert rows[row * CHANNELS + channel, n] == mask[row, 3 * n : 3 * n + 4].any()
    joined = contract.as_numpy(JoinChannels(CHANNELS)(patches))
    np.testing.assert_array_equal(
        joined, patches.reshape(4, CHANNELS, 4, 5).transpose(0, 2, 1, 3).reshape(4, 4, 15)
    )


def test_patchtst_channels_share_weights_and_do_not_see_each_other():
    model = series_patchtst("s", SERIES, **SMALL["series", "patchtst"])
    contract.randomize(model.trainable_variables)
    before = keras.Model(model.input, model.get_layer("s_channels").output)
    value = np.random.default_rng(0).standard_normal((2, *SERIES.shape)).astype("float32")
    value[..., 1] = value[..., 0]
    mask = np.ones((2, STEPS), bool)
    out = contract.as_numpy(before({"s": value, "s_mask": mask})).reshape(2, -1, CHANNELS, 8)
    np.testing.assert_allclose(out[:, :, 0], out[:, :, 1], atol=1e-6)
    value[..., 2] += 1
    other = contract.as_numpy(before({"s": value, "s_mask": mask})).reshape(2, -1, CHANNELS, 8)
    np.testing.assert_allclose(other[:, :, :2], out[:, :, :2], atol=1e-6)
    assert np.abs(other[:, :, 2] - out[:, :, 2]).max() > 1e-3


def test_tokenizer_against_numpy(rng):
    value, mask = cells(rng)
    layer = FeatureTokenizer(3, TABLE.sizes, 4)
    tokens, attended = contract.as_numpy(layer(value, mask))
    w = {v.name: v.numpy() for v in layer.weights}
    np.testing.assert_array_equal(attended, np.concatenate([np.ones((12, 1), bool), mask], 1))
    np.testing.assert_array_equal(tokens[:, 0], np.repeat(w["cls"][0], 12, axis=0))
    for row in range(12):
        for c in range(3):
            expected = value[row, c] * w["kernel"][c] + w["bias"][c]
            np.testing.assert_allclose(tokens[row, 1 + c], expected, atol=1e-6)
        for c, start in ((3, 0), (4, TABLE.sizes[0])):
            expected = w["embeddings"][start + int(value[row, c])] + w["bias"][c]
            np.testing.assert_allclose(tokens[row, 1 + c], expected, atol=1e-6)


def test_features_against_numpy(rng):
    value, mask = cells(rng)
    value[~mask] = 0
    layer = TableFeatures(3, TABLE.sizes, 4)
    found = contract.as_numpy(layer(value, mask))
    table = layer.embeddings.numpy()
    for row in range(12):
        parts = [value[row, :3]]
        for c, start in ((3, 0), (4, TABLE.sizes[0])):
            parts.append(table[start + int(value[row, c])] * mask[row, c])
        np.testing.assert_allclose(found[row], np.concatenate([*parts, mask[row]]), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_large_ids_stay_whole_in_mixed_precision(policy):
    words = tuple(f"w{i}" for i in range(3000))
    modality = mk.Table(categorical=("c",), vocabularies=(words,))
    keras.mixed_precision.set_global_policy(policy)
    for encoder in ("mlp", "ft_transformer"):
        model = encoders.get(encoder, "t", modality)
        table = next(v for v in model.weights if v.path.endswith("embeddings"))
        table.assign(np.random.default_rng(0).standard_normal(table.shape))
        batch = {"t": np.array([[2999.0], [2998.0]], "float32"), "t_mask": np.ones((2, 1), bool)}
        one, two = contract.as_numpy(model(batch))["tokens"]
        assert not np.array_equal(one, two), encoder


# Padding ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [("series", "tcn"), ("series", "lstm"), ("series", "patchtst"), ("vector", "transformer")],
)
def test_padding_changes_nothing(kind, encoder):
    modality = SERIES if kind == "series" else mk.Vector(size=7, steps=5, normalize=False)
    steps, more = modality.shape[0], 6
    arguments = {"name": encoder, **SMALL[kind, encoder]}
    model = encoders.get(arguments, "s", modality)
    contract.randomize(model.trainable_variables)
    longer = encoders.get(arguments, "s", modality.replace(steps=steps + more))
    for variable, old in zip(longer.weights, model.weights, strict=True):
        value = variable.numpy()
        value[: old.shape[0]] = old.numpy()
        variable.assign(value)
    batch = random_batch("s", modality)
    long = {
        "s": np.pad(batch["s"], ((0, 0), (0, more), (0, 0)), constant_values=5),
        "s_mask": np.pad(batch["s_mask"], ((0, 0), (0, more))),
    }
    expected, found = (contract.as_numpy(m(b)) for m, b in ((model, batch), (longer, long)))
    count = expected["mask"].shape[1]
    assert not found["mask"][:, count:].any()
    contract.assert_close({k: v[:, :count] for k, v in found.items()}, expected, 1e-5)


# Sizes and errors ---------------------------------------------------------------------------------


def test_sizes_of_the_papers():
    table = table_ft_transformer("t", TABLE, variant="default")
    assert table.output["tokens"].shape == (None, 1, 192)
    assert sum("block" in layer.name for layer in table.layers) == 3
    series = mk.Series(steps=336, channels=7, normalize=False)
    patches = series_patchtst("s", series, variant="base")
    assert patches.output["tokens"].shape == (None, 41, 128)
    for name, size in TCN.items():
        if name.endswith("ptb"):
            continue  # large
        tokens = series_tcn("s", series, variant=name).output["tokens"]
        assert tokens.shape == (None, 336, size["filters"][-1])


def test_tokens_of_the_docstring():
    for steps, patch, stride in ((16, 16, 8), (17, 16, 8), (24, 16, 8), (128, 16, 16), (9, 4, 1)):
        model = series_patchtst("s", SERIES.replace(steps=steps), patch_length=patch, stride=stride)
        assert model.output["tokens"].shape[1] == 1 + -(-(steps - patch) // stride)
    for pool in (1, 2, 4, 20):
        model = encoders.get({"name": "lstm", "hidden_dim": 2, "pool": pool}, "s", SERIES)
        assert model.output["tokens"].shape[1] == -(-STEPS // pool)


def test_errors_teach():
    with says(ValueError, "A patch must fit into the series", "patch_length=16", "11 steps of 's'"):
        series_patchtst("s", SERIES)
    with says(ValueError, "patches must leave no gap", "stride=5"):
        series_patchtst("s", SERIES, patch_length=4, stride=5)
    for encoder in ("lstm", "transformer"):
        with says(ValueError, "reads a sequence, and 'v' has no steps", "mk.Vector(size=..., step"):
            encoders.get(encoder, "v", SPECS["vector"])
    with says(ValueError, "Unknown variant 'smal'", "Did you mean 'small'?"):
        series_tcn("s", SERIES, variant="smal")
    with says(ValueError, "The encoder has no argument 'filter'", "Did you mean 'filters'?"):
        series_tcn("s", SERIES, filter=(8,))
    for modality in (mk.Table(numeric=("a",)), mk.Series(steps=5)):
        for encoder in encoders.ENCODERS[modality.kind]:
            with says(ValueError, "The modality 'x' must be adapted before a model is built"):
                encoders.get(encoder, "x", modality)
