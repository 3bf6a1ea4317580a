"""Raw units of every kind: their formula, masks, gradients, file, errors."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest

import mmkeras as mk
from tests import contract
from tests.encoders.inputs import SEQUENCE, SPECS, garbage, random_batch, refill

CASES = {**SPECS, "sequence": SEQUENCE, "item_series": mk.Several(SPECS["series"], 2)}
SIZES = {"image": {"patch": 6}, "series": {"patch": 4}, "video": {"patch": 5, "tubelet": 2}}
every_kind = pytest.mark.parametrize("kind", CASES)


def build(kind, dim=6):
    """Raw units with random weights, and a batch."""
    model = mk.encoders.raw("left", CASES[kind], hidden_dim=dim, **SIZES.get(kind, {}))
    contract.randomize(model.trainable_variables)
    return model, random_batch("left", CASES[kind])


def weights(model):
    """Name of a weight without its prefix -> value."""
    return {w.path.removeprefix("left_raw_"): w.numpy().astype("float64") for w in model.weights}


@every_kind
def test_masks_gradients_and_file(kind, tmp_path):
    model, batch = build(kind)
    tensors = contract.tensors(batch)
    out, found = contract.gradients(lambda: model(tensors), model.trainable_variables)
    contract.assert_all_train(found)
    out = contract.as_numpy(out)
    assert np.all(out["tokens"][~out["mask"]] == 0.0)
    assert out["mask"][0].all() and not out["mask"][1].any()
    for value in garbage(CASES[kind].item):
        contract.assert_same_bits(model(contract.tensors(refill(batch, "left", value))), out)
    paths = [w.path for w in model.weights]
    assert len(set(paths)) == len(paths)
    assert all(path.startswith(("left_raw_", "left_item_raw_")) for path in paths)
    model.save(tmp_path / "raw.keras")
    contract.assert_same_bits(keras.models.load_model(tmp_path / "raw.keras")(tensors), out)


@every_kind
def test_bfloat16(kind):
    plain, batch = build(kind)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model, _ = build(kind)
    model.set_weights(plain.get_weights())
    out = model(contract.tensors(batch))
    assert out["tokens"].dtype == "bfloat16"
    contract.assert_close(out, plain(contract.tensors(batch)), 0.15)


# Formulas ---------------------------------------------------------------------------------------


def patches(x, size):
    """Cuts the axes after the first into units of `size`: (B, T, prod(size) * C), row by row."""
    counts = [n // s for n, s in zip(x.shape[1:-1], size, strict=True)]
    rows = []
    for place in np.ndindex(*counts):
        cut = tuple(slice(i * s, (i + 1) * s) for i, s in zip(place, size, strict=True))
        rows.append(x[(slice(None), *cut)].reshape(len(x), -1))
    return np.stack(rows, axis=1)


def affine(x, kernel, bias):
    return x @ kernel.reshape(x.shape[-1], -1) + bias


def grown(x, pads):
    return np.pad(x, [(0, 0), *pads, *[(0, 0)] * (x.ndim - 1 - len(pads))])


def check(model, batch, tokens, mask):
    """The model's tokens are these, where they are real."""
    out = contract.as_numpy(model(contract.tensors(batch)))
    np.testing.assert_array_equal(out["mask"], mask)
    contract.assert_close(out["tokens"], np.where(mask[..., None], tokens, 0.0), 1e-5)


def test_patches_of_pictures():
    model, batch = build("image")
    w = weights(model)
    pixels = np.where(batch["left_mask"][:, None, None, None], batch["left"], 0) / 127.5 - 1.0
    x = patches(grown(pixels, [(0, 1), (1, 1)]), (6, 6))  # 17 x 16 pixels to 18 x 18
    tokens = affine(x, w["patches/kernel"], w["patches/bias"]) + w["positions/table"]
    check(model, batch, tokens, np.repeat(batch["left_mask"][:, None], 9, axis=1))


def test_patches_of_steps():
    model, batch = build("series")
    w = weights(model)
    x = np.where(batch["left_mask"][..., None], batch["left"], 0.0)
    x = patches(grown(x, [(0, 1)]), (4,))  # 11 steps to 12
    tokens = affine(x, w["patches/kernel"], w["patches/bias"]) + w["positions/table"]
    mask = patches(grown(batch["left_mask"], [(0, 1)])[..., None], (4,)).any(axis=-1)
    check(model, batch, tokens, mask)


def test_tubelets():
    model, batch = build("video")
    w = weights(model)
    real = batch["left_mask"]
    x = np.where(real[:, :, None, None, None], batch["left"] / 127.5 - 1.0, 0.0)
    x = grown(x, [(0, 1), (2, 2), (1, 1)])  # 5 frames of 16 x 8 to 6 of 20 x 10
    tokens = affine(patches(x, (2, 5, 5)), w["tubelets/kernel"], w["tubelets/bias"])
    places = np.tile(w["places/table"], (3, 1)) + np.repeat(w["steps/table"][:, 0], 8, axis=0)
    mask = patches(grown(real, [(0, 1)])[..., None], (2,)).any(axis=-1)
    check(model, batch, tokens + places, np.repeat(mask, 8, axis=1))


def test_words_vectors_and_cells():
    model, batch = build("text")
    w = weights(model)
    ids = np.where(batch["left_mask"], batch["left"], 0)
    tokens = w["embedding/embeddings"][ids] + w["positions/table"]
    check(model, batch, tokens, batch["left_mask"])
    model, batch = build("sequence")
    w = weights(model)
    tokens = batch["left"] @ w["project/kernel"] + w["project/bias"] + w["positions/table"]
    check(model, batch, tokens, batch["left_mask"])
    model, batch = build("vector")
    w = weights(model)
    tokens = batch["left"] @ w["project/kernel"] + w["project/bias"]
    check(model, batch, tokens[:, None], batch["left_mask"][:, None])
    model, batch = build("table")
    w = weights(model)
    ids = np.where(batch["left_mask"], batch["left"], 0)[:, 3:].astype(int) + [0, 3]
    numbers = batch["left"][:, :3, None] * w["cells/kernel"]
    cells = np.concatenate([numbers, w["cells/embeddings"][ids]], axis=1) + w["cells/bias"]
    check(model, batch, cells, batch["left_mask"])


def test_frames_and_items():
    """A patch of frames, and the items of a sample, are those of a model of their own."""
    model, batch = build("audio")
    w = weights(model)
    spec = SPECS["audio"]
    mel = mk.layers.LogMel(
        1000, num_bands=8, window_seconds=spec.window_seconds, hop_seconds=spec.hop_seconds
    )
    x, real = (contract.as_numpy(v) for v in mel(batch["left"], batch["left_mask"]))
    pad = -x.shape[1] % 8
    tokens = affine(patches(grown(x, [(0, pad)]), (8,)), w["patches/kernel"], w["patches/bias"])
    mask = patches(grown(real, [(0, pad)])[..., None], (8,)).any(axis=-1)
    check(model, batch, tokens + w["positions/table"], mask)
    model, batch = build("several")
    item = model.get_layer("left_item_raw")
    given = {
        key.replace("left", "left_item", 1): value.reshape(-1, *value.shape[2:])
        for key, value in batch.items()
    }
    out = contract.as_numpy(item(contract.tensors(given)))
    tokens = out["tokens"].reshape(5, 3, -1, 6) + weights(model)["join/table"]
    check(model, batch, tokens.reshape(5, -1, 6), out["mask"].reshape(5, -1))


# Errors -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Smell(mk.Modality):
    """A kind of a user."""

    kind: ClassVar[str] = "smell"


def test_errors():
    with pytest.raises(ValueError, match="has no argument 'pacth'.*Did you mean 'patch'"):
        mk.encoders.raw("left", SPECS["image"], pacth=4)
    with pytest.raises(ValueError, match="has no argument 'patch'"):
        mk.encoders.raw("left", SPECS["text"], patch=4)
    with pytest.raises(
        ValueError, match="Raw units are known of the kinds.*'left' of the kind 'sm"
    ):
        mk.encoders.raw("left", Smell())
