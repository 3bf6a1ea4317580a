"""Augmentation of pictures: what each op does to the pixels."""

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.core import Image
from mmkeras.data import rand_augment
from mmkeras.data.augment import augmenter
from tests.core.errors import says
from tests.data import files
from tests.data.augmented import B, H, W, seed, spec_of


def test_flip_mirrors(rng):
    spec = spec_of("flip")
    value = rng.integers(0, 256, (32, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(32, bool), seed(3)).numpy()
    kept = (out == value).all(axis=(1, 2, 3))
    mirrored = (out == value[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 6 <= mirrored.sum() <= 26
    both = Image(size=(H, W), augment={"flip": {"mode": "vertical"}})
    out = augmenter(both)(value, np.ones(32, bool), seed(3)).numpy()
    upside = (out == value[:, ::-1]).all(axis=(1, 2, 3))
    assert ((out == value).all(axis=(1, 2, 3)) ^ upside).all() and upside.any()


def centre(pictures):
    """Centre of brightness (y, x) of each picture."""
    weight = pictures[..., 0].astype(float)
    total = weight.sum(axis=(1, 2))
    y = (weight.sum(axis=2) * np.arange(pictures.shape[1])).sum(axis=1) / total
    x = (weight.sum(axis=1) * np.arange(pictures.shape[2])).sum(axis=1) / total
    return np.stack([y, x], axis=1)


def test_translate_moves_by_at_most_its_fraction_and_fills_with_black():
    size = 40
    value = np.zeros((24, size, size, 3), "uint8")
    value[:, 16:24, 16:24] = 200
    spec = Image(size=size, augment={"translate": {"fraction": 0.2}})
    out = augmenter(spec)(value, np.ones(24, bool), seed(1)).numpy()
    moved = centre(out) - centre(value)
    assert np.abs(moved).max() <= 0.2 * size + 0.5
    assert moved.min() < -2 and moved.max() > 2
    full = np.full((8, size, size, 3), 200, "uint8")
    out = augmenter(spec)(full, np.ones(8, bool), seed(1)).numpy()
    assert (out.reshape(8, -1).min(axis=1) == 0).all()  # black came in at the border
    assert out.max() == 200


@pytest.mark.parametrize("name", ["translate", "rotate", "zoom"])
def test_fill_is_what_comes_in_from_outside(name):
    value, mask = np.full((8, 20, 20, 3), 255, "uint8"), np.ones(8, bool)
    black = augmenter(Image(size=20, augment={name: {"fraction": 0.3}}))
    assert black(value, mask, seed(1)).numpy().min() == 0
    white = augmenter(Image(size=20, augment={name: {"fraction": 0.3, "fill": 255}}))
    assert white(value, mask, seed(1)).numpy().min() == 255
    with pytest.raises(ValueError, match="`fill` must lie between 0.0 and 255.0. Received: fill=2"):
        augmenter(Image(size=20, augment={name: {"fill": 256}}))


def test_zoom_and_rotate_stay_within_their_fraction():
    size = 41
    y, x = np.mgrid[:size, :size] - size // 2
    disc = np.where(y**2 + x**2 <= 100, 200, 0).astype("uint8")
    value = np.repeat(disc[None, :, :, None], 16, axis=0).repeat(3, axis=3)
    mask = np.ones(16, bool)
    zoom = augmenter(Image(size=size, augment={"zoom": {"fraction": 0.3}}))
    area = (zoom(value, mask, seed(2)).numpy()[..., 0] > 100).sum(axis=(1, 2)) / (disc > 100).sum()
    assert 0.9 / 1.3**2 < area.min() < 0.9 and 1.1 < area.max() < 1.1 / 0.7**2
    bar = np.zeros((16, size, size, 3), "uint8")
    bar[:, 19:22, 5:36] = 200
    turn = augmenter(Image(size=size, augment={"rotate": {"fraction": 0.05}}))
    out = turn(bar, mask, seed(2)).numpy()[..., 0].astype(float)
    angle = [
        np.polyfit(*np.nonzero(picture > 100)[::-1], 1, w=picture[picture > 100])[0]
        for picture in out
    ]
    turns = np.arctan(angle) / (2 * np.pi)
    assert np.abs(turns).max() <= 0.052 and turns.min() < -0.01 and turns.max() > 0.01


def test_brightness_and_contrast():
    value = np.full((16, H, W, 3), 128, "uint8")
    value[:, : H // 2] = 100
    mask = np.ones(16, bool)
    bright = augmenter(Image(size=(H, W), augment={"brightness": {"fraction": 0.2}}))
    out = bright(value, mask, seed(1)).numpy().astype(int)
    shift = out - value
    assert np.ptp(shift.reshape(16, -1), axis=1).max() <= 1  # one shift a picture
    assert 5 < np.abs(shift).max() <= 51 and shift.min() < 0 < shift.max()
    contrast = augmenter(Image(size=(H, W), augment={"contrast": {"fraction": 0.5}}))
    out = contrast(value, mask, seed(1)).numpy().astype(int)
    spread = out[:, -1, 0, 0] - out[:, 0, 0, 0]
    assert 28 * 0.5 - 1 <= spread.min() < 26 and 30 < spread.max() <= 28 * 1.5 + 1
    assert np.abs(out.mean(axis=(1, 2, 3)) - value.mean(axis=(1, 2, 3))).max() <= 1


def test_pixels_stay_in_0_to_255(rng):
    spec = Image(size=(H, W), augment={op: {"fraction": 0.9} for op in ("brightness", "contrast")})
    value = rng.choice([0, 255], (B, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(B, bool), seed(1)).numpy()
    # A wrap-around would turn white into black: a picture keeps its order.
    for a, b in zip(value, out, strict=True):
        assert b[a == 255].min() >= b[a == 0].max()


def test_cutout_blackens_one_square_whose_centre_is_in_the_picture():
    spec = Image(size=(20, 30), augment={"cutout": {"fraction": 0.5}})
    value = np.full((64, 20, 30, 3), 200, "uint8")
    out = augmenter(spec)(value, np.ones(64, bool), seed(1)).numpy()
    areas = []
    for picture in out:
        assert set(np.unique(picture)) <= {0, 200}
        y, x = np.nonzero(picture[..., 0] == 0)
        assert (picture[y.min() : y.max() + 1, x.min() : x.max() + 1] == 0).all()  # one box
        assert 5 <= np.ptp(y) + 1 <= 10 and 5 <= np.ptp(x) + 1 <= 10
        areas.append(len(y))
    assert max(areas) == 100 and min(areas) < 80  # cut off at the border
    two = Image(size=(20, 30), augment={"cutout": {"fraction": 0.2, "count": 3}})
    assert (augmenter(two)(value, np.ones(64, bool), seed(1)).numpy() == 0).mean() < 0.09


def test_grid_mask_blackens_its_share_in_a_period():
    size = 48
    spec = Image(size=size, augment={"grid_mask": {"unit": (0.25, 0.25), "ratio": 0.5}})
    value = np.full((16, size, size, 3), 200, "uint8")
    out = augmenter(spec)(value, np.ones(16, bool), seed(1)).numpy()
    cut = out[..., 0] == 0
    np.testing.assert_allclose(cut.mean(axis=(1, 2)), 0.25, atol=0.01)
    np.testing.assert_array_equal(cut[:, 12:], cut[:, :-12])  # a unit is 12 pixels
    np.testing.assert_array_equal(cut[:, :, 12:], cut[:, :, :-12])
    assert len({c.tobytes() for c in cut}) > 8
    turned = spec.replace(augment={"grid_mask": {"ratio": 0.5, "rotate": 0.1}})
    out = augmenter(turned)(value, np.ones(16, bool), seed(1)).numpy()
    assert 0.1 < (out == 0).mean() < 0.4


def test_color_jitter_keeps_the_value_and_greys(rng):
    spec = Image(size=(H, W), augment={"color_jitter": {"hue": 0.1, "saturation": 0.5}})
    value = rng.integers(0, 256, (B, H, W, 3)).astype("uint8")
    out = augmenter(spec)(value, np.ones(B, bool), seed(1)).numpy()
    # Hue and saturation leave the largest channel, and grey pixels, as they are.
    assert np.abs(out.max(axis=-1).astype(int) - value.max(axis=-1)).max() <= 1
    grey = np.repeat(value[..., :1], 3, axis=-1)
    files.same(augmenter(spec)(grey, np.ones(B, bool), seed(1)).numpy(), grey)
    none = spec.replace(augment={"color_jitter": {"hue": 0.0, "saturation": 0.0}})
    assert (
        np.abs(augmenter(none)(value, np.ones(B, bool), seed(1)).numpy() - value.astype(int)).max()
        <= 1
    )
    with says(ValueError, "'color_jitter'", "coloured pictures", "channels=1"):
        augmenter(spec.replace(channels=1))


@pytest.mark.parametrize("name", rand_augment.OPS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_op_of_rand_augment(name, channels, rng):
    y, x = np.mgrid[:12, :16]
    picture = np.stack([10 * y + 40, 9 * x + 50, 5 * (x + y) + 60][:channels], -1).astype("float32")
    op = rand_augment.OPS[name]
    out = {s: np.asarray(op(tf.constant(picture), tf.constant(s))) for s in (-0.5, 0.0, 0.5)}
    for found in out.values():
        assert found.shape == picture.shape and np.isfinite(found).all()
    still = {"auto_contrast", "equalize"}  # which have no strength
    if name in still:
        files.same(out[0.5], out[0.0])
        assert np.ptp(out[0.5][..., 0]) > np.ptp(picture[..., 0])
    elif name != "identity":
        np.testing.assert_allclose(out[0.0], picture, atol=1e-3)
        changed = not np.allclose(out[0.5], picture, atol=0.5)
        assert changed or (name == "color" and channels == 1)


def test_rand_augment_draws_per_picture(rng):
    spec = Image(size=(12, 16), augment={"rand_augment": {"num_ops": 1, "magnitude": 0.6}})
    picture = rng.integers(40, 200, (12, 16, 3)).astype("uint8")
    out = augmenter(spec)(np.repeat(picture[None], 40, axis=0), np.ones(40, bool), seed(1)).numpy()
    assert len({p.tobytes() for p in out}) >= 10
    assert any(np.array_equal(p, picture) for p in out)  # identity is one of them
    with says(ValueError, "'rand_augment'", "magnitude"):
        augmenter(spec.replace(augment={"rand_augment": {"magnitude": 2}}))
