"""Clips as bytes: GIFs by PIL, containers, video files by PyAV."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from mmkeras.data.container import pack
from tests.data import files


def colours(count: int, size: tuple[int, int] = (8, 12)) -> np.ndarray:
    """Returns uint8 (count, H, W, 3): frames of one colour, its red the frame's number x 10."""
    clip = np.zeros((count, *size, 3), np.uint8)
    clip[..., 0] = 10 * np.arange(count)[:, None, None]
    clip[..., 2] = 100
    return clip


def gif(clip: np.ndarray, milliseconds: int | list[int] = 40) -> bytes:
    """Returns an animated GIF; equal frames must not follow each other (PIL would join them)."""
    first, *rest = [Pillow.fromarray(frame).convert("P") for frame in clip]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0)
    return buffer.getvalue()


def container(clip: np.ndarray, times: list[int], end: int) -> bytes:
    """Returns a container of PNG frames, times in microseconds."""
    return pack([files.encode(frame) for frame in clip], times, end)


def video_file(
    path: Path, clip: np.ndarray, *, fps: int = 25, times: list[int] | None = None
) -> Path:
    """Writes a lossless video file; with `times` (milliseconds) one of variable frame rate."""
    import av

    with av.open(str(path), "w") as held:
        stream = held.add_stream("ffv1", rate=fps)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "bgr0"
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="bgr0")
            frame.pts = number if times is None else times[number]
            frame.time_base = Fraction(1, fps if times is None else 1000)
            held.mux(stream.encode(frame))
        held.mux(stream.encode())
    return path


def seen(value: np.ndarray) -> list[int]:
    """Returns the numbers of the frames of `colours` that were taken; black is 0 too."""
    return np.round(value[..., 0].mean((1, 2)) / 10).astype(int).tolist()
