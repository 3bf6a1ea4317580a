"""Video files into containers: frames, times, damage, resuming."""

import os
import sys
import zipfile

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.core import Video
from mmkeras.data import convert_videos
from mmkeras.data.container import unpack
from tests.core.errors import says
from tests.data import clips
from tests.data.test_decode import run

SIZE = (16, 24)


def held(path):
    with open(path, "rb") as file:
        frames, times, end = unpack(tf.constant(file.read()))
    return [tf.io.decode_image(f).numpy() for f in frames.numpy()], times.numpy().tolist(), int(end)


def quiet(*args, **kwargs):
    return convert_videos(*args, verbose=0, **kwargs)


def test_frames_and_times_are_those_of_the_file(tmp_path):
    clip = clips.colours(7, SIZE)
    files = [clips.video_file(tmp_path / name, clip) for name in ("a.avi", "b.mkv")]
    made = quiet(files, tmp_path / "out", quality=None)
    assert made == [str(tmp_path / "out" / f"{f.name}.frames") for f in files]
    for path in made:
        frames, times, end = held(path)
        np.testing.assert_array_equal(frames, clip)  # lossless all the way
        assert times == [40_000 * i for i in range(7)]
        assert end == 280_000
    data = mk.data.table({"clip": made}, {"clip": Video(frames=4, size=SIZE, fps=12.5)})
    (x,) = next(iter(data.batches("train", 2)))
    assert clips.seen(x["clip"][0].numpy()) == [0, 2, 4, 6] and x["clip_mask"].numpy().all()


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 40, 200, 240, 400]
    file = clips.video_file(tmp_path / "a.mkv", clips.colours(5, SIZE), times=times)
    (made,) = quiet([file], tmp_path, quality=None)
    assert held(made)[1] == [1000 * t for t in times]
    value, mask = run(
        Video(frames=5, size=SIZE, fps=12.5, start="start"), [open(made, "rb").read()]
    )
    assert clips.seen(value[0]) == [0, 1, 1, 3, 3] and mask.all()


def test_smaller_frames_and_quality(tmp_path):
    file = clips.video_file(tmp_path / "a.avi", clips.colours(3, SIZE))
    (small,) = quiet([file], tmp_path / "small", short_side=8)
    assert held(small)[0][0].shape == (8, 12, 3)
    (same,) = quiet([file], tmp_path / "same", short_side=99)
    frames = held(same)[0]
    assert frames[0].shape == (*SIZE, 3)
    assert np.abs(frames[2].astype(int) - clips.colours(3, SIZE)[2]).max() < 6  # JPEG of 95


def test_a_conversion_goes_on_where_it_was(tmp_path):
    files = [clips.video_file(tmp_path / f"{i}.avi", clips.colours(i + 2, SIZE)) for i in range(3)]
    out = tmp_path / "out"
    made = quiet(files[:2], out)
    (out / "2.avi.frames.1.tmp").write_bytes(b"of a process that was killed")
    before = [os.stat(path).st_mtime_ns for path in made]
    made = quiet(files, out)
    assert [os.stat(path).st_mtime_ns for path in made[:2]] == before
    assert len(held(made[2])[0]) == 4
    clips.video_file(files[0], clips.colours(9, SIZE))  # another file of that name
    (made[0],) = quiet(files[:1], out)
    assert len(held(made[0])[0]) == 9
    (again,) = quiet(files[:1], out, short_side=8)  # made in another way
    assert held(again)[0][0].shape == (8, 12, 3)


def test_damage_is_told_and_what_is_whole_is_kept(tmp_path, rng):
    noise = rng.integers(0, 256, (30, *SIZE, 3)).astype("uint8")
    good = clips.video_file(tmp_path / "good.avi", noise)
    short = tmp_path / "short.avi"
    short.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    none = tmp_path / "none.avi"
    none.write_bytes(b"nothing" * 99)
    files = [none, good, short, tmp_path / "absent.avi"]
    out = tmp_path / "out"
    with says(ValueError, "3 of 4 video files cannot be read", "none.avi", "on_bad='cut'"):
        quiet(files, out)
    assert sorted(os.listdir(out)) == ["good.avi.frames"]
    with pytest.warns(UserWarning, match="3 of 4 video files"):
        made = quiet(files, out, on_bad="skip")
    assert made == [None, str(out / "good.avi.frames"), None, None]
    with pytest.warns(UserWarning, match="3 of 4 video files"):
        made = quiet(files, out, on_bad="cut")
    assert made[0] is None and made[3] is None
    frames, times, end = held(made[2])
    assert 5 < len(frames) < 30 and end == times[-1] + 40_000
    value, mask = run(Video(frames=30, size=SIZE, fps=25), [open(made[2], "rb").read()])
    assert mask[0].tolist() == [i < len(frames) for i in range(30)]
    with pytest.raises(ValueError, match="short.avi"):  # what was cut does not pass for whole
        quiet([short], out)


def test_a_file_without_pictures(tmp_path):
    from tests.data import files

    (tmp_path / "sound.wav").write_bytes(files.wav(np.zeros(800, "int16")))
    with says(ValueError, "sound.wav: has no video stream"):
        quiet([tmp_path / "sound.wav"], tmp_path)


def test_arguments(tmp_path, monkeypatch):
    with says(ValueError, "names of the files must differ", "a.avi", "folder of its own"):
        quiet(["x/a.avi", "y/a.avi"], tmp_path)
    with says(ValueError, "`on_bad` must be one of ['cut', 'error', 'skip']"):
        quiet([], tmp_path, on_bad="mask")
    with says(ValueError, "`quality` must lie between 1 and 100", "quality=101"):
        quiet([], tmp_path, quality=101)
    monkeypatch.setitem(sys.modules, "av", None)
    with says(ImportError, "mmkeras[video]"):
        quiet([], tmp_path)


def test_progress(tmp_path, capsys):
    convert_videos([clips.video_file(tmp_path / "a.avi", clips.colours(2, SIZE))], tmp_path)
    assert "1/1" in capsys.readouterr().out


def test_real_mpeg_files(data_dir, tmp_path):
    """Six MPEG-1 files of GRID: 75 frames at 25 a second, by the set's README."""
    with zipfile.ZipFile(data_dir / "grid_digits" / "raw_samples.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".mpg")]
        for name in names:
            archive.extract(name, tmp_path)
    made = quiet([tmp_path / name for name in names], tmp_path / "out", short_side=72)
    assert len(made) == 6
    for path in made:
        frames, times, end = held(path)
        assert len(frames) == 75 and frames[0].shape == (72, 90, 3)
        assert times == [40_000 * i for i in range(75)] and end == 3 * 1_000_000
    data = mk.data.table({"lips": made}, {"lips": Video(frames=16, size=(36, 48), fps=25)})
    (x,) = next(iter(data.batches("train", 6)))
    assert x["lips_mask"].numpy().all()
    moved = np.abs(np.diff(x["lips"].numpy().astype(int), axis=1)).mean(axis=(1, 2, 3, 4))
    assert (moved > 0.2).all()  # people speak: no two frames are alike
    mpeg = (tmp_path / names[0]).read_bytes()
    with says(ValueError, "mk.data.convert_videos"):
        mk.data.table({"lips": [mpeg]}, {"lips": Video()})
    cut = tmp_path / "cut.mpg"
    cut.write_bytes(mpeg[: len(mpeg) // 2])
    with says(ValueError, "cut.mpg", "is damaged"):
        quiet([cut], tmp_path)
    with pytest.warns(UserWarning, match="damaged"):
        (made,) = quiet([cut], tmp_path, on_bad="cut")
    count = len(held(made)[0])
    assert 30 < count < 40
    value, mask = run(Video(frames=75, size=36, fps=25), [open(made, "rb").read()])
    assert mask[0].sum() == count and not mask[0, count:].any()
