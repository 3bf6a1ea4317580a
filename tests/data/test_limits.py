"""What a header declares beyond a spec's limit is unreadable before it is decoded."""

import struct

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import spec
from mmkeras.data import decoder, limits
from mmkeras.data.tolerant import tolerant
from tests.data import clips, files


def png(width, height):
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return head + b"\x08\x02\0\0\0" + bytes(40)


def jpeg(width, height):
    data = files.encode(np.zeros((8, 8, 3), np.uint8), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def bmp(width, height):
    return b"BM" + bytes(12) + struct.pack("<IiiHH", 40, width, height, 1, 24) + bytes(100)


def gif(width, height, frames=1):
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return head + frames * frame + b"\x3b"


HUGE = {
    "png": png(2**31 - 1, 2**31 - 1),
    "png of negative size": png(2**32 - 1, 5000),
    "jpeg": jpeg(60_000, 60_000),
    "bmp": bmp(20_000, 20_000),
    "bmp, top down": bmp(5, -(2**31)),
    "gif": gif(60_000, 60_000),
    "gif of many frames": gif(1000, 1000, 40),
    "webp": b"RIFF\x10\0\0\0WEBPVP8 ",
}


def test_a_jpeg_of_endless_scans_is_refused(rng):
    pixels = rng.integers(0, 256, (40, 40, 3)).astype("uint8")
    good = files.encode(pixels, "JPEG", progressive=True)
    place = good.index(b"\xff\xda")
    assert good.count(b"\xff\xda") > 3
    scan = good[place : good.index(b"\xff", place + 2)]  # up to the next marker or stuffed byte
    bad = good[:place] + 100 * scan + good[place:]
    decode = decoder(mk.Image(size=8))
    value, _, wrong = tolerant(decode, tf.constant([good, bad]))
    assert wrong.numpy().tolist() == [False, True]
    np.testing.assert_array_equal(value[0], decode(tf.constant([good]))[0][0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 100 scans"):
        decode(tf.constant([bad]))


@pytest.fixture
def pictures(rng):
    good = rng.integers(0, 256, (16, 12, 3)).astype("uint8")
    return {kind: files.encode(good, kind) for kind in ("JPEG", "PNG", "GIF", "BMP")}


@pytest.mark.parametrize(
    "modality",
    [mk.Image(size=4), mk.Image(size=4, channels=1), mk.Video(frames=2, size=4)],
    ids=["colour", "grey", "video"],
)
def test_huge_headers_are_bad_input_and_their_neighbours_are_not(modality, rng):
    good = files.encode(rng.integers(0, 256, (9, 7, 3)).astype("uint8"), "JPEG")
    decode = decoder(modality)
    value, mask, bad = tolerant(decode, tf.constant([*HUGE.values(), good]))
    assert bad.numpy().tolist() == [True] * len(HUGE) + [False]
    assert not mask.numpy()[:-1].any() and not value.numpy()[:-1].any()
    np.testing.assert_array_equal(value[-1], decode(tf.constant([good]))[0][0])


def test_a_limit_is_one_number_of_pixels_of_any_format(pictures):
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        height, width, _ = files.pixels_of(pictures[kind]).shape
        rows = {"p": [pictures[kind]]}
        mk.data.table(rows, {"p": mk.Image(size=4, max_pixels=height * width)})
        with pytest.raises(
            ValueError, match=r"row 1 of .*'p': must have at most .*max_pixels"
        ) as e:
            mk.data.table(rows, {"p": mk.Image(size=4, max_pixels=height * width - 1)})
        assert f"Received pixels: {height * width}" in str(e.value)


def test_a_limit_holds_where_a_crop_is_cut_while_decoding(pictures):
    augment = {"random_resized_crop": {}}
    with pytest.raises(ValueError, match="must have at most 8 pixels"):
        mk.data.table(
            {"p": [pictures["JPEG"]]}, {"p": mk.Image(size=4, augment=augment, max_pixels=8)}
        )


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(8, 12), (90, 110)])
def test_pixels_of_a_gif_are_counted_as_tensorflow_decodes_them(count, size, rng):
    clip = rng.integers(0, 256, (count, *size, 3)).astype("uint8")
    data = tf.constant(clips.gif(clip))
    held = tf.io.decode_gif(data).shape.as_list()[:3]
    assert limits.gif_pixels(data, 2**30).numpy() == np.prod(held) == count * size[0] * size[1]


def test_a_gif_in_endless_small_blocks_is_refused():
    head = gif(5, 5)[:19] + b"\x2c" + struct.pack("<HHHHB", 0, 0, 5, 5, 0) + b"\x02"
    with pytest.raises(tf.errors.InvalidArgumentError, match="less than 8192 blocks"):
        tf.function(limits.gif_pixels)(tf.constant(head + b"\1\1" * 70_000), 100)


def test_frames_of_a_container_and_of_a_gif(rng):
    clip = clips.colours(4, (10, 10))
    packed, moving = clips.container(clip, [0, 1, 2, 3], 4), clips.gif(clip)
    for limit, bad in ((99, [True, True]), (100, [False, True]), (400, [False, False])):
        decode = decoder(mk.Video(frames=4, size=4, max_pixels=limit))
        assert tolerant(decode, tf.constant([packed, moving]))[2].numpy().tolist() == bad


def test_samples_of_a_sound():
    good, long = files.wav(np.arange(8)), files.wav(np.arange(9))
    odd = good[:40] + struct.pack("<I", 2**31) + good[44:]  # declares 2 GB
    specs = {"s": mk.Audio(rate_hz=8000, seconds=0.025, max_samples=8)}
    with pytest.raises(ValueError, match=r"row 2 of .*'s': must hold at most 8 samples.* 9"):
        mk.data.table({"s": [good, long]}, specs)
    with pytest.warns(UserWarning, match="cannot be read"):
        data = mk.data.table({"s": [good, long, odd]}, specs, on_bad="mask")
    assert list(data.bad["train"]["s"]) == [2, 3]
    _, mask, bad = tolerant(decoder(specs["s"]), tf.constant([good, long, odd, b""]))
    assert bad.numpy().tolist() == [False, True, True, False]
    assert mask.numpy().sum() == 8


def test_bytes_of_a_text():
    specs = {"t": mk.Text(length=3, max_bytes=4, vocabulary=("[PAD]", "[UNK]", "ab"))}
    with pytest.raises(ValueError, match=r"row 2 of .*'t': must have at most 4 bytes.* 5"):
        mk.data.table({"t": ["ab a", "ab ab"]}, specs)
    value, _, bad = tolerant(decoder(specs["t"]), tf.constant(["ab ab", "ab a", ""]))
    assert bad.numpy().tolist() == [True, False, False]
    np.testing.assert_array_equal(value, [[0, 0, 0], [2, 1, 0], [0, 0, 0]])


def test_limits_go_through_json_and_old_files_have_the_default():
    limited = {
        "p": mk.Image(max_pixels=5),
        "v": mk.Video(max_pixels=6),
        "s": mk.Audio(max_samples=7),
        "t": mk.Text(max_bytes=8),
        "k": mk.Several(mk.Image(max_pixels=9), 2),
    }
    assert spec.from_json(spec.to_json(limited)) == limited
    for modality in (mk.Image(), mk.Video(), mk.Audio(), mk.Text()):
        old = {k: v for k, v in modality.get_config().items() if not k.startswith("max_")}
        assert len(old) == len(modality.get_config()) - 1
        assert spec.from_config(old) == modality
    with pytest.raises(ValueError, match="`max_pixels` must be a whole number of at least 1"):
        mk.Video(max_pixels=0)
