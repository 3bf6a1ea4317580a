"""Clips: which frames are seen, when there are none, what is refused; all in the graph."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Video
from mmkeras.data import decoder
from mmkeras.data.augment import OPS, augmenter
from mmkeras.data.container import pack, unpack
from mmkeras.data.draws import Draws
from mmkeras.data.kinds.video import SLACK
from tests.core.errors import says
from tests.data import clips, files
from tests.data.test_decode import run

SECOND = 1_000_000
SIZE = (8, 12)


def one(spec, raw):
    value, mask = run(spec, [raw])
    return value[0], mask[0].tolist()


def rule(times, end, count, fps, start):
    """Frame i is shown at t0 + i / fps; the docstring's rule in plain Python."""
    first = max(end - count * SECOND / fps, 0) / 2 if start == "centre" else 0
    when = [round(first + i * SECOND / fps) + SLACK for i in range(count)]
    index = [max(max((k for k, t in enumerate(times) if t <= w), default=0), 0) for w in when]
    return index, [w < end for w in when]


@pytest.mark.parametrize("start", ["centre", "start"])
@pytest.mark.parametrize("fps", [10.0, 60.0, 23.976])
def test_container_frames_by_the_rule(fps, start, rng):
    count = 9
    gaps = rng.integers(5_000, 90_000, count)  # a variable frame rate
    times, end = np.cumsum([0, *gaps[:-1]]).tolist(), int(gaps.sum())
    clip = clips.colours(count, SIZE)
    raw = clips.container(clip, times, end)
    spec = Video(frames=5, size=SIZE, fps=fps, start=start)
    value, mask = one(spec, raw)
    index, real = rule(times, end, 5, fps, start)
    assert mask == real
    np.testing.assert_array_equal(
        value, np.where(np.array(real)[:, None, None, None], clip[index], 0)
    )


def test_the_rates_own_frames_are_each_seen_once():
    clip = clips.colours(20, SIZE)
    for fps in (24, 25, 30, 1000 / 33):
        times = [round(i * SECOND / fps) for i in range(21)]
        raw = clips.container(clip, times[:-1], times[-1])
        value, mask = one(Video(frames=20, size=SIZE, fps=fps), raw)
        assert clips.seen(value) == list(range(20)) and all(mask)


@pytest.mark.parametrize("pack_clip", [clips.gif, lambda c: clips.container(c, *even(c))])
def test_every_frame_without_fps(pack_clip):
    clip = clips.colours(7, SIZE)
    raw = pack_clip(clip)
    for frames, start, expected in (
        (3, "centre", [2, 3, 4]),
        (4, "centre", [1, 2, 3, 4]),
        (3, "start", [0, 1, 2]),
        (7, "centre", list(range(7))),
        (9, "centre", [*range(7), 0, 0]),
    ):
        value, mask = one(Video(frames=frames, size=SIZE, start=start), raw)
        assert clips.seen(value) == expected
        assert mask == [i < 7 for i in range(frames)]
        assert not value[~np.array(mask)].any()


def even(clip, step=40_000):
    return [step * i for i in range(len(clip))], step * len(clip)


def test_gif_by_its_delays():
    clip = clips.colours(4, SIZE)
    raw = clips.gif(clip, [40, 120, 80, 40])  # 280 ms
    value, mask = one(Video(frames=8, size=SIZE, fps=25, start="start"), raw)
    assert clips.seen(value) == [0, 1, 1, 1, 2, 2, 3, 0]
    assert mask == [True] * 7 + [False]
    no_delay = clips.gif(clip, 0)  # a tenth of a second each, as browsers show it
    value, mask = one(Video(frames=5, size=SIZE, fps=10), no_delay)
    assert clips.seen(value)[:4] == [0, 1, 2, 3] and mask == [True] * 4 + [False]


def test_gif_frames_are_those_of_pil(rng):
    clip = rng.integers(0, 256, (3, *SIZE, 3)).astype("uint8")
    raw = clips.gif(clip)
    from PIL import Image as Pillow

    held = Pillow.open(__import__("io").BytesIO(raw))
    expected = []
    for i in range(3):
        held.seek(i)
        expected.append(np.asarray(held.convert("RGB")))
    value, _ = one(Video(frames=3, size=SIZE), raw)
    np.testing.assert_array_equal(value, expected)
    grey, _ = one(Video(frames=3, size=SIZE, channels=1), raw)
    weights = [0.2989, 0.5870, 0.1140]
    np.testing.assert_allclose(grey[..., 0], np.array(expected) @ weights, atol=1)


def test_size_and_fit_are_those_of_pictures(rng):
    clip = rng.integers(0, 256, (2, 10, 20, 3)).astype("uint8")
    for fit in ("stretch", "pad", "crop"):
        spec = Video(frames=2, size=6, fit=fit)
        value, _ = one(spec, clips.container(clip, [0, 1], 2))
        for frame, picture in zip(value, clip, strict=True):
            expected, _ = run(spec.picture, [files.encode(picture)])
            np.testing.assert_array_equal(frame, expected[0])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF"])
def test_a_picture_is_one_frame(kind):
    picture = clips.colours(4, SIZE)[3]
    for fps in (None, 25):
        value, mask = one(Video(frames=3, size=SIZE, fps=fps), files.encode(picture, kind))
        assert mask == [True, False, False]
        assert clips.seen(value)[0] == 3 and not value[1:].any()


def test_an_empty_string_is_an_absent_clip():
    raw = clips.gif(clips.colours(2, SIZE))
    value, mask = run(Video(frames=2, size=SIZE), [b"", raw])
    assert not value[0].any() and not mask[0].any() and mask[1].all()


def test_container_holds_what_was_packed():
    frames, times, end = unpack(tf.constant(pack([b"a", b"", b"bc"], [0, 3, 9], 12, b"file")))
    assert frames.numpy().tolist() == [b"a", b"", b"bc"]
    assert times.numpy().tolist() == [0, 3, 9] and end == 12
    large = pack([b"x" * 100_000], [0], 1)
    assert tf.strings.length(unpack(tf.constant(large))[0][0]) == 100_000


# Arrays


def test_arrays(rng):
    short, long_ = (rng.integers(0, 256, (n, *SIZE)).astype("uint8") for n in (2, 7))
    rows = {"clip": [short, long_, None, long_[..., None]], "y": list("abab")}
    spec = Video(frames=4, size=SIZE, channels=1, fps=25)
    data = mk.data.table(rows, {"clip": spec}, "y")
    x, _ = next(iter(data.batches("train", 4)))
    value, mask = x["clip"].numpy()[..., 0], x["clip_mask"].numpy()
    np.testing.assert_array_equal(value[0], [*short, *np.zeros((2, *SIZE))])
    np.testing.assert_array_equal(value[1], long_[1:5])  # the centre
    np.testing.assert_array_equal(value[3], value[1])
    assert mask.tolist() == [[True] * 2 + [False] * 2, [True] * 4, [False] * 4, [True] * 4]
    starts = mk.data.table(rows, {"clip": spec.replace(start="start")}, "y")
    x, _ = next(iter(starts.batches("train", 4)))
    np.testing.assert_array_equal(x["clip"][1, ..., 0], long_[:4])


@pytest.mark.parametrize("fps", [None, 25, 30])
def test_what_is_served_is_what_was_trained_on(fps, rng):
    """Decoded arrays -> raw containers -> the decoder: bit for bit, holes in the mask included."""
    given = rng.random((5, 6)) < 0.6
    given[0] = True
    rows = {
        "clip": list(rng.integers(0, 256, (5, 6, *SIZE, 3)).astype("uint8")),
        "clip_mask": given,
    }
    spec = Video(frames=6, size=SIZE, fps=fps)
    data = mk.data.table(rows, {"clip": spec})
    (x,) = next(iter(data.batches("train", 5)))
    np.testing.assert_array_equal(x["clip_mask"], given)
    value, mask = run(spec, list(data.raw("train", range(5))["clip"]))
    files.same([value, mask], [x["clip"].numpy(), x["clip_mask"].numpy()])


def test_files_and_cache(tmp_path):
    clip = clips.colours(6, SIZE)
    for number, raw in enumerate((clips.gif(clip), clips.container(clip, *even(clip)))):
        (tmp_path / f"{number}").write_bytes(raw)
    rows = {"clip": ["0", "1", None, "1"]}
    data = mk.data.table(rows, {"clip": Video(frames=4, size=SIZE, fps=25)}, root=tmp_path)
    (x,) = next(iter(data.batches("train", 4)))
    for held in (data.cache(), data.cache(tmp_path / "cache")):
        assert held.splits["train"].columns["clip"].form == "decoded"
        (cached,) = next(iter(held.batches("train", 4)))
        files.same({k: v.numpy() for k, v in cached.items()}, {k: v.numpy() for k, v in x.items()})
        assert held.raw("train", [0])["clip"][0] == clips.gif(clip)
    report = mk.data.check(rows, {"clip": Video(frames=4, size=SIZE)}, root=tmp_path)
    assert report.ok and report.missing["train"]["clip"] == 1


# Augmentation


def test_every_declared_augmentation_is_covered():
    assert set(OPS["video"]) | {"temporal_crop"} == set(Video.augmentations)


@pytest.mark.parametrize("op", sorted(OPS["video"]))
def test_all_frames_of_a_clip_are_changed_alike(op, rng):
    picture = rng.integers(0, 256, (6, 1, 9, 11, 3)).astype("uint8")
    spec = Video(frames=4, size=(9, 11), augment={op: {}})
    mask = np.ones((6, 4), bool)
    mask[1, 2:], mask[2] = False, False
    value = np.repeat(picture, 4, axis=1) * mask[..., None, None, None]
    seed = Draws(tf.constant([1, 2], tf.uint32))
    out = augmenter(spec)(tf.constant(value), tf.constant(mask), seed).numpy()
    assert out.dtype == np.uint8 and not out[~mask].any()
    for row in range(6):
        for frame in out[row][mask[row]]:
            np.testing.assert_array_equal(frame, out[row][0])
    changed = [not np.array_equal(out[i], value[i]) for i in (0, 3, 4, 5)]
    assert any(changed) if op == "flip" else all(changed)
    again = augmenter(spec)(tf.constant(value), tf.constant(mask), seed).numpy()
    np.testing.assert_array_equal(out, again)


def test_pictures_and_their_clips_are_augmented_by_one_rule(rng):
    value = rng.integers(0, 256, (5, 1, 9, 11, 3)).astype("uint8")
    augment = {"rotate": {}, "brightness": {}, "contrast": {}}
    seed = Draws(tf.constant([3, 4], tf.uint32))
    clip = augmenter(Video(frames=1, size=(9, 11), augment=augment))
    picture = augmenter(mk.Image(size=(9, 11), augment=augment))
    found = clip(tf.constant(value), tf.ones((5, 1), bool), seed)[:, 0]
    np.testing.assert_array_equal(found, picture(tf.constant(value[:, 0]), tf.ones(5, bool), seed))


def test_temporal_crop_of_a_source_starts_anywhere():
    clip = clips.colours(20, SIZE)
    raw = clips.container(clip, *even(clip))
    spec = Video(frames=5, size=SIZE, fps=25, augment={"temporal_crop": {"scale": (1, 1)}})
    decode = decoder(spec)
    value, mask = decode(tf.constant([raw] * 40), Draws(tf.constant([1, 2], tf.uint32)))
    starts = []
    for row in value.numpy():
        taken = clips.seen(row)
        assert np.diff(taken).tolist() == [1] * 4
        starts.append(taken[0])
    assert mask.numpy().all() and set(starts) > {2, 5, 9} and max(starts) <= 15
    again, _ = decode(tf.constant([raw] * 40), Draws(tf.constant([1, 2], tf.uint32)))
    np.testing.assert_array_equal(again, value)
    centre, _ = decode(tf.constant([raw]))
    assert clips.seen(centre[0].numpy()) == [7, 8, 9, 10, 11]


def test_temporal_crop_of_decoded_clips_keeps_to_their_real_frames():
    spec = Video(frames=8, size=SIZE, augment={"temporal_crop": {"scale": (0.5, 0.5)}})
    rows = {"clip": [clips.colours(8, SIZE)] * 16 + [clips.colours(4, SIZE)] * 16}
    data = mk.data.table(rows, {"clip": spec})
    (x,) = next(iter(data.train(32, shuffle=False)))
    mask = x["clip_mask"].numpy()
    assert mask[:16].all() and (mask[16:] == ([True] * 4 + [False] * 4)).all()
    starts = set()
    for row, value in enumerate(x["clip"].numpy()):
        taken = clips.seen(value[mask[row]])
        assert set(np.diff(taken)) <= {0, 1}
        assert len(set(taken)) in (len(taken) // 2, len(taken) // 2 + 1)
        starts.add(taken[0])
    assert len(starts) > 2
    (plain,) = next(iter(data.train(32, shuffle=False, augment=False)))
    assert clips.seen(plain["clip"][0].numpy()) == list(range(8))


# What is refused


def broken():
    whole = clips.container(clips.colours(4, SIZE), [0, 1, 2, 3], 4)
    damaged = pack([b"\x89PNG nothing"], [0], 1)
    return {
        "cut": (whole[:-9], ["the container must be whole", f"{len(whole) - 9} of {len(whole)}"]),
        "mpeg": (b"\x00\x00\x01\xba" + b"x" * 99, ["must be an animated GIF, a picture, or a con",
                                                  "mk.data.convert_videos"]),
        "noise": (b"nothing", ["must be an animated GIF"]),
        "gif": (clips.gif(clips.colours(2, SIZE))[:50], ["Invalid GIF data"]),
        "frame": (damaged, ["PNG"]),
        "empty": (pack([], [], 0), ["a container must hold frames"]),
        "times": (pack([b"a", b"b"], [5, 5], 9), ["the times of a container must ascend"]),
        "count": (pack([b"a", b"b"], [5], 9), ["must hold frames and as many times"]),
        "inside": (whole[:9] + b"\xff" * 9 + whole[18:], ["parse example"]),
    }  # fmt: skip


@pytest.mark.parametrize("name", broken())
def test_broken_bytes_are_told_before_training(name):
    raw, parts = broken()[name]
    rows = {"clip": [clips.gif(clips.colours(2, SIZE)), raw]}
    with says(ValueError, "row 2 of the given columns, column 'clip'", "on_bad='mask'", *parts):
        mk.data.table(rows, {"clip": Video(frames=2, size=SIZE)})


def test_broken_bytes_can_be_masked():
    rows = {"clip": [clips.gif(clips.colours(2, SIZE)), b"nothing"]}
    with pytest.warns(UserWarning, match="count as absent"):
        data = mk.data.table(rows, {"clip": Video(frames=2, size=SIZE)}, on_bad="mask")
    (x,) = next(iter(data.batches("train", 2)))
    assert x["clip_mask"].numpy().tolist() == [[True, True], [False, False]]


def test_a_broken_frame_that_only_a_random_crop_would_see():
    good = files.encode(clips.colours(1, SIZE)[0])
    raw = pack([good, good, good, b"\x89PNG nothing"], [0, 40_000, 80_000, 120_000], 160_000)
    spec = Video(frames=2, size=SIZE, fps=25, start="start")
    mk.data.table({"clip": [raw]}, {"clip": spec})  # never seen, never decoded
    with says(ValueError, "row 1 of the given columns, column 'clip'", "PNG"):
        mk.data.table({"clip": [raw]}, {"clip": spec.replace(augment={"temporal_crop": {}})})


def test_a_gif_that_ends_early_is_masked_at_the_end():
    clip = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3)).astype("uint8")
    raw = clips.gif(clip)
    value, mask = one(Video(frames=4, size=40), raw[: len(raw) * 5 // 8])
    assert mask[0] and not mask[3]
    assert not value[~np.array(mask)].any()


@pytest.mark.parametrize(
    ("clip", "parts"),
    [
        (np.zeros((2, 8, 12), "float32"), ["a clip must be uint8", "float32", "astype('uint8')"]),
        (np.zeros((8, 12), "uint8"), ["(N, H, W) or (N, H, W, C)", "(8, 12)"]),
        (np.zeros((0, 8, 12), "uint8"), ["at least one frame", "(0, 8, 12)"]),
        (np.zeros((2, 8, 12, 4), "uint8"), ["declared channels=3", "Received: 4"]),
        (np.zeros((2, 8, 12, 2), "uint8"), ["declared channels=3", "Received: 2"]),
    ],
)
def test_wrong_arrays(clip, parts):
    rows = {"clip": [np.zeros((2, 8, 12, 3), "uint8"), clip]}
    with says(ValueError, "Row 2 of the given columns, modality 'clip'", *parts):
        mk.data.table(rows, {"clip": Video(frames=2, size=SIZE)})


@pytest.mark.parametrize(
    ("augment", "parts"),
    [
        ({"scale": 0.5}, ["`scale` of 'temporal_crop' must be (low, high)", "0.5"]),
        ({"scale": (0.9, 0.5)}, ["0 < low <= high"]),
        ({"part": 1}, ["'temporal_crop' knows the argument 'scale'", "['part']"]),
    ],
)
def test_wrong_temporal_crop(augment, parts):
    with says(ValueError, *parts):
        decoder(Video(augment={"temporal_crop": augment}))
