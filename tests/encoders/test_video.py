"""Encoders of video and of several items against their parts, and against NumPy."""

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.encoders.video_r2plus1d import VARIANTS as R2PLUS1D
from mmkeras.encoders.video_vivit import VARIANTS as VIVIT
from mmkeras.layers import CenterFrames, MaxPool3D
from tests import contract
from tests.core.errors import says
from tests.encoders.inputs import SMALL, SPECS, random_batch
from tests.encoders.test_encoders_contract import NAME, build, call

SPEC = SPECS["video"]
TIME = {"cnn3d": 2, "r2plus1d": 2, "vivit": 2, "frames_lstm": 1, "frames_transformer": 1}


@pytest.mark.parametrize("encoder", TIME)
def test_a_longer_clip_that_ends_early_gives_the_same_tokens(encoder):
    """Frames that are not there change nothing: neither norms nor pooling count them."""
    arguments = {"name": encoder, **SMALL["video", encoder]}
    short = SPEC.replace(frames=4)
    model = encoders.get(arguments, NAME, short)
    contract.randomize(model.trainable_variables, scale=0.1)
    longer = encoders.get(arguments, NAME, SPEC.replace(frames=8))
    for new, old in zip(longer.weights, model.weights, strict=True):
        assert new.path == old.path
        value = new.numpy()
        value[: old.shape[0]] = old.numpy()  # positions: the first are the same
        new.assign(value)
    batch = random_batch(NAME, short)
    pad = [(0, 0), (0, 4)]
    padded = {
        NAME: np.pad(batch[NAME], [*pad, (0, 0), (0, 0), (0, 0)], constant_values=7),
        f"{NAME}_mask": np.pad(batch[f"{NAME}_mask"], pad),
    }
    expected, found = call(model, batch), call(longer, padded)
    steps = 4 // TIME[encoder]
    assert expected["tokens"].shape[1] == steps and not found["mask"][:, steps:].any()
    np.testing.assert_array_equal(found["mask"][:, :steps], expected["mask"])
    np.testing.assert_allclose(found["tokens"][:, :steps], expected["tokens"], atol=3e-5)


@pytest.mark.parametrize("encoder", TIME)
def test_the_order_of_frames_counts(encoder):
    model, _ = build(f"video-{encoder}")
    batch = random_batch(NAME, SPEC)
    turned = {**batch, NAME: batch[NAME][:, ::-1]}
    tokens, other = call(model, batch)["tokens"][0], call(model, turned)["tokens"][0]
    assert np.abs(tokens.mean(axis=0) - other.mean(axis=0)).max() > 1e-4


def test_centred_frames(rng):
    clip, mask = rng.standard_normal((4, 5, 2, 3)).astype("float32"), rng.random((4, 5)) < 0.6
    mask[0], mask[1] = True, False
    found = np.asarray(CenterFrames()(clip, mask))
    for one, real, out in zip(clip, mask, found, strict=True):
        mean = one[real].mean(axis=0) if real.any() else 0.0
        np.testing.assert_allclose(out[real], (one - mean)[real], atol=1e-6)
        assert not out[~real].any()
    garbage = np.where(mask[..., None, None], clip, np.nan)
    np.testing.assert_array_equal(np.asarray(CenterFrames()(garbage, mask)), found)


@pytest.mark.parametrize("encoder", ["cnn3d", "r2plus1d"])
def test_a_centred_encoder_sees_only_what_moves(encoder):
    arguments = {"name": encoder, **SMALL["video", encoder]}
    batch = random_batch(NAME, SPEC)
    dim = {**batch, NAME: batch[NAME] // 4}
    lighter = {**dim, NAME: dim[NAME] + 100}
    for center in (True, False):
        model = encoders.get({**arguments, "center": center}, NAME, SPEC)
        contract.randomize(model.trainable_variables, scale=0.1)
        difference = call(model, dim)["tokens"] - call(model, lighter)["tokens"]
        assert bool(np.abs(difference).max() < 1e-4) is center
        still = {**batch, NAME: np.repeat(batch[NAME][:, :1], SPEC.frames, axis=1)}
        still[f"{NAME}_mask"] = np.ones_like(batch[f"{NAME}_mask"])
        tokens = call(model, still)["tokens"]
        assert bool(np.abs(tokens - tokens[:1]).max() < 1e-4) is center


def test_tokens_of_the_docstrings():
    for frames, stages in ((16, 3), (5, 3), (7, 2)):
        spec = SPEC.replace(frames=frames)
        sizes = {"filters": (8,) * stages, "depths": (1,) * stages}
        for make in (encoders.video_cnn3d, encoders.video_r2plus1d):
            model = make(NAME, spec, **sizes)
            assert model.output["tokens"].shape[1] == -(-frames // 2 ** (stages - 1))
        model = encoders.video_vivit(NAME, spec, patch=4, tubelet=stages)
        assert model.output["tokens"].shape[1] == -(-frames // stages)


def test_r2plus1d_has_as_many_weights_as_a_3d_network():
    """The rule for M, summed by hand; and what it is for."""

    def convolution(before, after, kernel=3):
        whole = 3 * kernel**2 * before * after
        middle = whole // (kernel**2 * before + 3 * after)
        return whole, kernel**2 * before * middle + 3 * middle * after, 2 * middle + 2 * after

    parts, width, short = [convolution(3, 64, kernel=7)], 64, 0
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            parts += [convolution(width, filters), convolution(filters, filters)]
            short += width * filters + 2 * filters if stage and not block else 0
            width = filters
    whole, split, norms = np.sum(parts, axis=0)
    assert 0 <= whole - split < 0.003 * whole
    model = encoders.video_r2plus1d(NAME, mk.Video(frames=16, size=112), variant="18")
    positions = 2 * 512
    assert model.count_params() == split + norms + short + positions
    assert R2PLUS1D["34"]["depths"] == (3, 4, 6, 3)


def test_vivit_base_is_the_factorised_encoder_of_the_paper():
    """12 blocks over space and 4 over time of ViT-Base; no biases at the keys."""
    small = {"patch": 4, "tubelet": 2, "hidden_dim": 8, "num_heads": 2, "intermediate_dim": 12}
    model = encoders.video_vivit(NAME, SPEC, **small, num_layers=3, num_temporal_layers=2)
    dim, mlp, grid, steps = 8, 12, 4 * 2, 3
    block = 4 * dim**2 + 3 * dim + 2 * dim * mlp + mlp + dim + 4 * dim
    tubelets = 2 * 4 * 4 * 1 * dim + dim
    assert model.count_params() == 5 * block + tubelets + (grid + steps) * dim + 2 * 2 * dim
    base = VIVIT["base"]
    assert (base["num_layers"], base["num_temporal_layers"]) == (12, 4)
    assert (base["hidden_dim"], base["intermediate_dim"], base["num_heads"]) == (768, 3072, 12)


def test_tubelets_against_numpy(rng):
    model = encoders.video_vivit(NAME, SPEC, **{**SMALL["video", "vivit"], "num_layers": 0,
                                                "num_temporal_layers": 0})  # fmt: skip
    contract.randomize(model.trainable_variables)
    batch = random_batch(NAME, SPEC)
    weights = {v.path.removeprefix(f"{NAME}_"): v.numpy().astype("float64") for v in model.weights}

    def norm(x, name):
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
        return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]

    mask = np.pad(batch[f"{NAME}_mask"], [(0, 0), (0, 1)])
    pixels = np.pad(batch[NAME] / 127.5 - 1.0, [(0, 0), (0, 1), *[(0, 0)] * 3])
    pixels = np.where(mask[..., None, None, None], pixels, 0.0)
    parts = pixels.reshape(5, 3, 2, 4, 4, 2, 4, 1)  # steps, tubelet, rows, patch, columns, patch
    x = np.einsum("bntrpcqk,tpqkd->bnrcd", parts, weights["tubelets/kernel"])
    x = (x + weights["tubelets/bias"]).reshape(5, 3, 8, 8) + weights["places/table"]
    steps = mask.reshape(5, 3, 2).any(axis=2)
    x = norm(x, "space_norm").mean(axis=2) * steps[..., None] + weights["positions/table"]
    expected = norm(x, "time_norm") * steps[..., None]
    found = call(model, batch)
    np.testing.assert_array_equal(found["mask"], steps)
    np.testing.assert_allclose(found["tokens"], expected, atol=2e-5)


def test_max_pool_against_numpy(rng):
    x = rng.standard_normal((2, 5, 4, 7, 3)).astype("float32")
    found = contract.as_numpy(MaxPool3D((2, 2, 3))(x))
    padded = np.pad(x, [(0, 0), (0, 1), (0, 0), (0, 2), (0, 0)], constant_values=-np.inf)
    expected = padded.reshape(2, 3, 2, 2, 2, 3, 3, 3).max(axis=(2, 4, 6))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("encoder", ["frames_lstm", "frames_transformer"])
def test_any_image_encoder_reads_the_frames(encoder):
    given = {"name": "cnn", "filters": (8,)}
    model = encoders.get({"name": encoder, "encoder": given}, NAME, SPEC)
    (inner,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    assert inner.name == f"{NAME}_frame_cnn" and set(inner.input) == {
        f"{NAME}_frame",
        f"{NAME}_frame_mask",
    }
    with says(ValueError, "Unknown encoder for image modalities 'cn'"):
        encoders.get({"name": encoder, "encoder": "cn"}, NAME, SPEC)


def test_several_is_the_items_encoder_on_each_item():
    model, modality = build("several-shared")
    (inner,) = (layer for layer in model.layers if isinstance(layer, keras.Model))
    table = next(v for v in model.weights if v.path == f"{NAME}_join/table").numpy()
    batch = random_batch(NAME, modality)
    out = call(model, batch)
    for place in range(modality.count):
        item = {
            f"{NAME}_item": batch[NAME][:, place],
            f"{NAME}_item_mask": batch[f"{NAME}_mask"][:, place],
        }
        alone = call(inner, item)
        count = alone["mask"].shape[1]
        part = slice(place * count, (place + 1) * count)
        np.testing.assert_array_equal(out["mask"][:, part], alone["mask"])
        expected = (alone["tokens"] + table[place]) * alone["mask"][..., None]
        np.testing.assert_allclose(out["tokens"][:, part], expected, atol=2e-5)


def test_several_takes_a_model_of_its_own():
    spec = mk.Several(mk.Vector(3, normalize=False), 2)
    inner = encoders.vector_mlp(f"{NAME}_item", spec.modality)
    model = encoders.get({"name": "shared", "encoder": inner}, NAME, spec)
    assert inner in model.layers
    other = encoders.vector_mlp(NAME, spec.modality)
    with says(ValueError, f"must have the inputs ['{NAME}_item', '{NAME}_item_mask']"):
        encoders.get({"name": "shared", "encoder": other}, NAME, spec)
    with pytest.raises(ValueError, match="must be adapted before"):
        encoders.get(None, NAME, mk.Several(mk.Text(), 2))


def test_wrong_sizes():
    with says(ValueError, "must be multiples of the patch", "size=(16, 8), patch=16", "'patch': 8"):
        encoders.video_vivit(NAME, SPEC, patch=16)
    with says(ValueError, "Unknown variant 'bas'", "Did you mean 'base'?"):
        encoders.video_vivit(NAME, SPEC, variant="bas")
    with says(ValueError, "has no argument 'filter'", "Did you mean 'filters'?"):
        encoders.video_cnn3d(NAME, SPEC, filter=3)
