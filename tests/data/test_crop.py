"""Random resized crops: boxes against their formula, at decode against slices, seeds, absence."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Image
from mmkeras.data import decoder
from mmkeras.data.crop import RandomResizedCrop
from mmkeras.data.draws import Draws
from tests.core.errors import says
from tests.data import files

SIZE = (6, 5)
ARGUMENTS = {"scale": (0.3, 1.0), "ratio": (3 / 4, 4 / 3)}


def spec_of(size=SIZE, **more):
    return Image(size=size, augment={"random_resized_crop": {**ARGUMENTS, **more}})


def seed(a, b=0):
    return Draws(tf.constant([a, b], tf.uint32))


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (40, 400), (1, 1)])
def test_boxes_fit_and_have_the_drawn_area_and_aspect(size):
    crop = RandomResizedCrop(spec_of())
    drawn = crop.draw(4000, seed(1))
    share, aspect = drawn.numpy()[:, 0], drawn.numpy()[:, 1]
    assert 0.3 <= share.min() < 0.31 and 0.99 < share.max() <= 1.0
    assert 0.75 <= aspect.min() < 0.76 and 1.32 < aspect.max() <= 4 / 3 + 1e-6
    assert abs(np.log(aspect).mean()) < 0.02 and abs(share.mean() - 0.65) < 0.02
    box = crop.box(drawn, np.tile(size, (4000, 1))).numpy()
    top, left, height, width = box.T
    assert (box[:, :2] >= 0).all() and (box[:, 2:] >= 1).all()
    assert (top + height <= size[0]).all() and (left + width <= size[1]).all()
    for start, extent, side in ((top, height, size[0]), (left, width, size[1])):
        room = extent < side
        if room.sum() > 2000:  # positions reach both ends
            assert (start[room] == 0).any() and (start + extent == side)[room].any()
    if min(size) >= 40:
        np.testing.assert_allclose(height * width / (size[0] * size[1]), share, atol=0.04)
    fits = (share * size[1] / size[0] <= aspect) & (aspect <= size[1] / size[0] / share)
    if min(size) >= 375:
        assert 1000 < fits.sum() < 4000
        np.testing.assert_allclose((width / height)[fits], aspect[fits], rtol=0.01)


def boxes_of(decode, count, key, size):
    drawn = decode.crop.draw(count, key)
    return decode.crop.box(drawn, np.tile(size, (count, 1))).numpy()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_crop_at_decode_is_the_resized_slice(kind, channels):
    y, x = np.mgrid[:40, :60]
    picture = np.stack([5 * y + 20, 3 * x + 30, 2 * (x + y)], axis=-1).astype("uint8")
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    raw = [files.encode(picture, kind, **options)] * 4
    spec = Image(size=SIZE, channels=channels, augment={"random_resized_crop": {}})
    decode = decoder(spec)
    value, mask = tf.function(decode)(tf.constant(raw), seed(3))
    whole = decoder(Image(size=(40, 60), channels=channels))(tf.constant(raw[:1]))[0].numpy()[0]
    boxes = boxes_of(decode, 4, seed(3), (40, 60))
    assert mask.numpy().all() and len({tuple(box) for box in boxes}) == 4
    for got, (top, left, height, width) in zip(value.numpy(), boxes, strict=True):
        cut = whole[top : top + height, left : left + width]
        expected = np.round(tf.image.resize(cut, SIZE, "area"))
        assert np.abs(got - expected).max() <= 1


def test_the_seed_alone_decides_and_absent_pictures_stay_absent(rng):
    pixels = rng.integers(0, 256, (30, 30, 3)).astype("uint8")
    raw = tf.constant([files.encode(pixels, "JPEG"), b"", files.encode(pixels), b""])
    decode = decoder(spec_of())
    first, mask = decode(raw, seed(1, 2))
    assert mask.numpy().tolist() == [True, False, True, False]
    assert not first.numpy()[[1, 3]].any()
    tf.random.set_seed(99)
    files.same(decode(raw, seed(1, 2))[0], first)
    for other in (seed(2, 2), seed(1, 3)):
        assert not np.array_equal(decode(raw, other)[0], first)
    plain = decoder(Image(size=SIZE))(raw)
    files.same(decode(raw), plain)  # without a seed: as served


def data_of(rng, augment, form, count=8):
    pixels = rng.integers(0, 256, (count, 24, 24, 3)).astype("uint8")
    pictures = [files.encode(p) for p in pixels] if form == "bytes" else list(pixels)
    rows = {"picture": pictures, "label": ["a", "b"] * (count // 2)}
    spec = Image(size=24, augment=augment)
    return mk.data.table(rows, {"picture": spec}, "label", valid=rows)


@pytest.mark.parametrize("form", ["bytes", "arrays", "cached"])
def test_only_training_with_augmentation_crops(form):
    augment = {"random_resized_crop": ARGUMENTS}
    kind = "arrays" if form == "arrays" else "bytes"
    plain = data_of(np.random.default_rng(0), {}, kind)
    data = data_of(np.random.default_rng(0), augment, kind)
    data = data.cache() if form == "cached" else data
    bare = files.numpy(plain.train(4, shuffle=False))
    files.same(files.numpy(data.valid(4)), files.numpy(plain.valid(4)))
    files.same(files.numpy(data.train(4, shuffle=False, augment=False)), bare)
    cropped = files.numpy(data.train(4, shuffle=False))
    for (x, _), (whole, _) in zip(cropped, bare, strict=True):
        changed = (x["picture"] != whole["picture"]).reshape(4, -1).any(axis=1)
        assert changed.sum() >= 3
        assert x["picture"].dtype == np.uint8 and x["picture"].shape == (4, 24, 24, 3)
    streams = [next(iter(data.train(4).stream(1))) for _ in range(2)]
    files.same(*streams)


def test_recrop_is_a_bilinear_window():
    y, x = np.mgrid[:24, :24]
    pictures = np.repeat(np.stack([8 * y, 8 * x, 4 * (x + y)], -1)[None], 5, 0).astype("uint8")
    crop = RandomResizedCrop(spec_of(24))
    out = crop.recrop(tf.constant(pictures), seed(7)).numpy()
    boxes = crop.box(crop.draw(5, seed(7)), np.tile((24, 24), (5, 1))).numpy()
    for picture, (top, left, height, width) in zip(out, boxes, strict=True):
        rows = np.linspace(top, top + height - 1, 24)  # the picture is linear: so is its window
        columns = np.linspace(left, left + width - 1, 24)
        expected = np.stack(np.meshgrid(8 * rows, 8 * columns, indexing="ij"), -1)
        assert np.abs(picture[..., :2] - expected).max() <= 0.51


def test_errors_teach():
    for arguments, words in (
        ({"scale": 0.5}, ("`scale`", "(low, high)", "0.5")),
        ({"scale": (0.5, 1.5)}, ("`scale`", "1.0", "1.5")),
        ({"scale": (0.0, 1.0)}, ("0 < low", "0.0")),
        ({"ratio": (2.0, 1.0)}, ("`ratio`", "low <= high")),
        ({"ratios": (1.0, 1.0)}, ("ratios", "'scale' and 'ratio'")),
    ):
        with says(ValueError, *words):
            decoder(Image(augment={"random_resized_crop": arguments}))
