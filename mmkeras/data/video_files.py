"""MPEG, MP4, AVI and what else FFmpeg reads, converted once into containers."""

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import checks
from mmkeras.data.container import pack, source_of

SUFFIX = ".frames"


def convert_videos(
    files: Sequence[str | os.PathLike],
    folder: str | os.PathLike,
    *,
    short_side: int | None = None,
    quality: int | None = 95,
    on_bad: str = "error",
    workers: int | None = None,
    verbose: int = 1,
) -> list[str | None]:
    """Decodes video files with PyAV (extra `video`) into containers that the graph reads.

    `clip.mpg` becomes `folder/clip.mpg.frames`: every frame of the first video stream as JPEG or
    PNG, with its own time, so that a variable frame rate is kept; sound is left out, and a rotation
    noted in the file is not applied. A container appears whole or not at all. One that is there is
    kept if it was made of the same file (name, size, time of change) in the same way, so a
    conversion that was interrupted goes on where it was.

    Args:
        files: paths; their names must differ.
        folder: is created.
        short_side: larger frames are shrunk until their shorter side has this many pixels.
        quality: of the JPEG, 1 to 100; None writes PNG, which loses nothing.
        on_bad: "error" raises, once all other files are done, if a file cannot be read to its end;
            "cut" keeps what comes before the first damaged frame (the end is then masked, as of
            any shorter video); "skip" leaves the file out. Both warn.
        workers: files at a time; the number of usable cores when None.
        verbose: 1 shows the progress.

    Returns:
        The container of each file, None for those that were left out (an empty cell is an absent
        video): a column of `mk.data.table`.

    Raises:
        ImportError: PyAV is not there.
        ValueError: a file that cannot be read (see `on_bad`), two of one name.
    """
    _av()
    checks.one_of("on_bad", on_bad, ("error", "cut", "skip"))
    options = {
        "short_side": short_side and checks.whole("short_side", short_side),
        "quality": quality and int(checks.real("quality", quality, 1, 100)),
    }
    files = [Path(file) for file in files]
    twice = [name for name, n in Counter(file.name for file in files).items() if n > 1]
    if twice:
        raise ValueError(
            f"The names of the files must differ, because they name the containers. Received twice:"
            f" {twice[:5]}. Convert each folder into a folder of its own."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    progress = keras.utils.Progbar(len(files), verbose=verbose, unit_name="file")
    made: list[str | None] = []
    bad: list[str] = []
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        jobs = pool.map(lambda file: _convert(file, folder, options, on_bad == "cut"), files)
        for file, (path, damage) in zip(files, jobs, strict=True):
            made.append(path)
            bad += [f"{file}: {damage}"] if damage else []
            progress.update(len(made))
    _report(bad, len(files), on_bad)
    return made


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "Video files are decoded with PyAV: pip install 'mmkeras[video]' (or av)."
        ) from error
    return av


def _report(bad: list[str], count: int, on_bad: str) -> None:
    if not bad:
        return
    text = f"{len(bad)} of {count} video files cannot be read to the end. First: {bad[0]}."
    if on_bad == "error":
        raise ValueError(
            f"{text} The others are converted. Correct these, or pass on_bad='cut' (keep what "
            "comes before) or 'skip'."
        )
    warnings.warn(text, stacklevel=3)


def _convert(file: Path, folder: Path, options: dict, cut: bool) -> tuple[str | None, str]:
    """Converts one file unless that is done; returns its container and why it is not whole."""
    path = folder / (file.name + SUFFIX)
    if not file.is_file():
        return None, "no such file"
    state = file.stat()
    about = {"name": file.name, "size": state.st_size, "changed": state.st_mtime_ns, **options}
    held = json.loads(source_of(path.read_bytes()) or "{}") if path.is_file() else {}
    damage = held.pop("damage", "")
    if held == about and (cut or not damage):
        return str(path), damage
    frames, times, end, damage = _decode(file, **options)
    if damage and not (cut and frames):
        return None, damage
    source = json.dumps({**about, "damage": damage}).encode()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(pack(frames, times, end, source))
    os.replace(temporary, path)
    return str(path), damage


def _decode(file: Path, short_side: int | None, quality: int | None) -> tuple:
    """Returns frames, times, end of a file, and why they are not all, or ""."""
    frames: list[bytes] = []
    times: list[int] = []
    end, damage = 0, ""
    try:
        with _av().open(str(file)) as held:
            if not held.streams.video:
                return [], [], 0, "has no video stream"
            stream = held.streams.video[0]
            for frame in held.decode(stream):
                damage = _damage(frame, times)
                if damage:
                    break
                times.append(_microseconds(frame, frame.pts))
                length = frame.duration or 1 / (frame.time_base * (stream.average_rate or 25))
                end = _microseconds(frame, frame.pts + length)
                frames.append(_encoded(frame, short_side, quality))
            if not damage and stream.frames > len(frames):
                damage = f"ends early: {len(frames)} of {stream.frames} frames"
    except (_av().error.FFmpegError, EOFError) as error:
        damage = f"after {len(frames)} frames: {error}"
    if not frames and not damage:
        damage = "has no frames"
    first = times[0] if times else 0
    return frames, [time - first for time in times], end - first, damage


def _microseconds(frame: Any, ticks: Any) -> int:
    return round(Fraction(ticks) * frame.time_base * 1_000_000)


def _damage(frame: Any, times: list[int]) -> str:
    """Returns what is wrong with the frame that follows those of `times`, or ""."""
    if frame.pts is None:
        return f"frame {len(times)} has no time"
    if frame.is_corrupt:
        return f"frame {len(times)} at {float(frame.time):.2f} s is damaged"
    if times and _microseconds(frame, frame.pts) <= times[-1]:
        return f"frame {len(times)} at {float(frame.time):.2f} s is not later than the one before"
    return ""


def _encoded(frame: Any, short_side: int | None, quality: int | None) -> bytes:
    width, height = frame.width, frame.height
    scale = min(1.0, (short_side or min(width, height)) / min(width, height))
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    picture = frame.reformat(width, height, "rgb24").to_ndarray()
    if quality is None:
        return tf.io.encode_png(picture).numpy()
    return tf.io.encode_jpeg(picture, quality=quality).numpy()
