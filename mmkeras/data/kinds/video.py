"""Clips: animated GIFs, containers, pictures or arrays in, uint8 frames and their mask out."""

from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Video
from mmkeras.data import limits
from mmkeras.data.columns import Column, decoded, encoded_items, is_array
from mmkeras.data.container import pack, unpack
from mmkeras.data.crop import TemporalCrop
from mmkeras.data.draws import Draws
from mmkeras.data.kinds import image
from mmkeras.data.sources import Rows, missing

SECOND = 1_000_000  # microseconds
SLACK = 500  # microseconds: the times of files are rounded
_STILL = 1000  # microseconds that a lone picture is shown
_DELAY = 100_000  # microseconds of a GIF frame that gives no delay, as browsers show it


def column(name: str, modality: Video, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns paths, bytes, or (of arrays) the clips at their size."""
    cells = rows.column(source)
    if not is_array(cells):
        return encoded_items(rows, cells, archive)
    return decoded(name, modality, rows, *_clips(name, modality, rows, cells))


def _clips(name: str, modality: Video, rows: Rows, cells: Any) -> tuple[np.ndarray, np.ndarray]:
    fit = image.Decoder(modality.picture).fit
    values = np.zeros((len(cells), *modality.shape), np.uint8)
    mask = np.zeros((len(cells), modality.frames), bool)
    for row, cell in enumerate(cells):
        if missing(cell):
            continue
        clip = np.asarray(cell)
        clip = clip[..., None] if clip.ndim == 3 else clip
        if clip.dtype != np.uint8 or clip.ndim != 4 or not len(clip):
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a clip must be "
                "uint8 (N, H, W) or (N, H, W, C) in 0..255, of at least one frame. Received: shape "
                f"{np.shape(cell)}, dtype {clip.dtype}. Scale it to 0..255 and pass "
                "`.astype('uint8')`; None is an absent clip."
            )
        if clip.shape[-1] not in (1, modality.channels):
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a clip must have the "
                f"declared channels={modality.channels}. Received: {clip.shape[-1]}. Declare "
                "Video(channels=...), or convert it."
            )
        spare = max(len(clip) - modality.frames, 0)
        first = spare // 2 if modality.start == "centre" else 0
        clip = clip[first : first + modality.frames]
        clip = np.repeat(clip, modality.channels // clip.shape[-1], axis=-1)
        whole = clip.shape[1:] == modality.picture.shape
        values[row, : len(clip)] = clip if whole else fit(clip).numpy()
        mask[row, : len(clip)] = True
    return values, mask


def encode(modality: Video, clip: np.ndarray, mask: np.ndarray) -> bytes:
    """Returns decoded frames as a container of PNG, to the last real one."""
    count = int(np.flatnonzero(mask)[-1]) + 1
    times = [round(i * SECOND / (modality.fps or 1)) for i in range(count + 1)]
    frames = [tf.io.encode_png(clip[i]).numpy() if mask[i] else b"" for i in range(count)]
    return pack(frames, times[:-1], times[-1])


class Decoder(tf.Module):
    """GIF, container or picture bytes (B,) -> uint8 (B, N, H, W, C), bool (B, N)."""

    def __init__(self, modality: Video, whole: bool = False) -> None:
        """Keeps the spec.

        Args:
            modality: the spec.
            whole: whether a container's frames are all decoded, also those that are not seen: to
                find what is broken before a random crop comes upon it.
        """
        super().__init__()
        self.modality, self.whole = modality, whole
        self.picture = image.Decoder(modality.picture)
        self.crop = TemporalCrop(modality) if "temporal_crop" in modality.augment else None

    def __call__(self, raw: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Decodes a batch.

        Args:
            raw: (B,).
            draws: while training: chooses the part of the source that "temporal_crop" of the
                spec's `augment` sees; None takes the declared one.
        """
        spec = (
            tf.TensorSpec(self.modality.shape, tf.uint8),
            tf.TensorSpec((self.modality.frames,), tf.bool),
        )
        items = (raw,)
        if draws is not None and self.crop is not None:
            items = (raw, self.crop.draw(tf.shape(raw)[0], draws))

        def one(item: Any, *drawn: Any) -> Any:
            return tf.cond(
                tf.strings.length(item) > 0,
                lambda: self._decode(item, *drawn),
                lambda: tuple(tf.zeros(s.shape, s.dtype) for s in spec),
            )

        # Unconverted, an error that cannot be read as text stays what it is (see data/scan.py).
        each = tf.autograph.experimental.do_not_convert(lambda parts: one(*parts))
        return tf.map_fn(each, items, fn_output_signature=spec)

    def recrop(self, clips: Any, mask: Any, draws: Draws) -> tuple[Any, Any]:
        """Cuts decoded clips (B, N, H, W, C) at random; see `TemporalCrop`."""
        return self.crop.recrop(clips, mask, draws)

    def _decode(self, item: Any, drawn: Any = None) -> tuple[Any, Any]:
        start = tf.strings.substr(item, 0, 2)
        still = tf.reduce_any(start == [b"BM", b"\x89P", b"\xff\xd8"])
        return tf.cond(
            tf.equal(start, b"GI"),
            lambda: self._gif(item, drawn),
            lambda: self._encoded(
                *tf.cond(still, lambda: _lone(item), lambda: unpack(item)), drawn
            ),
        )

    def _gif(self, item: Any, drawn: Any) -> tuple[Any, Any]:
        item = limits.picture(item, self.modality.max_pixels)
        frames = tf.io.decode_gif(item)  # (S, h, w, 3), each as it is shown; whole ones alone
        times, end = self._gif_times(item, tf.shape(frames)[0])
        index, real = self.sample(times, end, drawn)
        frames = tf.gather(frames, index)
        if self.modality.channels == 1:
            frames = tf.image.rgb_to_grayscale(frames)
        frames = tf.where(real[:, None, None, None], self.picture.fit(frames), 0)
        return tf.ensure_shape(frames, self.modality.shape), real

    def _gif_times(self, item: Any, count: Any) -> tuple[Any, Any]:
        if self.modality.fps is None:
            times = tf.range(tf.cast(count, tf.int64) + 1) * SECOND
            return times[:-1], times[-1]
        delays = _gif_delays(item)
        held = tf.shape(delays)[0]
        check = tf.debugging.Assert(
            (held >= count) | tf.reduce_all(delays <= 10_000),
            [
                "a GIF sampled by `fps` must give the delay of every frame, or of none. Received "
                "frames and delays:",
                count,
                held,
            ],
        )
        with tf.control_dependencies([check]):
            delays = tf.pad(delays[:count], [[0, count - tf.minimum(held, count)]])
        times = tf.cumsum(tf.where(delays > 10_000, delays, _DELAY))
        return tf.concat([[0], times[:-1]], 0), tf.where(count > 1, times[-1], _STILL)

    def _encoded(self, frames: Any, times: Any, end: Any, drawn: Any) -> tuple[Any, Any]:
        """Frames as bytes (S,), of which only the sampled ones are decoded."""
        index, real = self.sample(times, end, drawn)
        chosen = tf.where(real, tf.gather(frames, index), "")
        pictures = tf.map_fn(self._frame, chosen, fn_output_signature=tf.uint8)
        if self.whole:  # the result must depend on them, or they would be optimised away
            largest = tf.map_fn(
                lambda frame: tf.reduce_max(self._frame(frame)),
                frames,
                fn_output_signature=tf.uint8,
            )
            pictures = tf.minimum(pictures, tf.maximum(tf.reduce_max(largest), 255))
        pictures = tf.ensure_shape(pictures, self.modality.shape)
        return pictures, tf.strings.length(chosen) > 0

    def _frame(self, item: Any) -> Any:
        """Bytes of one frame () -> uint8 (H, W, C); zeros of ""."""
        shape = self.modality.shape[1:]
        return tf.cond(
            tf.strings.length(item) > 0,
            lambda: self.picture.decode(item),
            lambda: tf.zeros(shape, tf.uint8),
        )

    def sample(self, times: Any, end: Any, drawn: Any = None) -> tuple[Any, Any]:
        """Returns which frames are seen, int32 (N,), and whether there is one, bool (N,).

        Args:
            times: int64 (S,), microseconds at which each frame is shown first.
            end: int64 (), microseconds at which the last one ends.
            drawn: (2,) of `TemporalCrop.draw`, or None.
        """
        count, fps = self.modality.frames, self.modality.fps
        if fps is None:  # frame by frame: as if one a second
            times = tf.range(tf.size(times, tf.int64)) * SECOND
            end = tf.size(times, tf.int64) * SECOND
        length, step = tf.cast(end, tf.float64), tf.constant(SECOND / (fps or 1), tf.float64)
        centre = tf.constant(0.5 if self.modality.start == "centre" else 0.0, tf.float64)
        position = centre
        if drawn is not None:
            position = tf.cast(drawn[0], tf.float64)
            step *= tf.cast(drawn[1], tf.float64)
        first = position * tf.maximum(length - count * step, 0.0)
        if fps is None and drawn is None:
            first = tf.floor(first / SECOND) * SECOND
        seen = tf.cast(tf.round(first + tf.range(count, dtype=tf.float64) * step), tf.int64) + SLACK
        index = tf.searchsorted(times, seen, side="right") - 1
        return tf.maximum(index, 0), seen < end


def _lone(item: Any) -> tuple[Any, Any, Any]:
    """A picture as a container's parts."""
    return item[None], tf.constant([0], tf.int64), tf.constant(_STILL, tf.int64)


def _gif_delays(item: Any) -> Any:
    """Microseconds int64 (S,) of the graphic control extensions: 21 F9 04 . lo hi . 00 (2C | 21).

    Found by their seven fixed bytes; that other data hold them has a chance of 1 in 2 ** 47 a byte.
    """
    data = tf.cast(tf.io.decode_raw(item, tf.uint8), tf.int64)
    data = tf.pad(data, [[0, 9]])
    fixed = [(0, 0x21), (1, 0xF9), (2, 0x04), (7, 0x00)]
    size = tf.size(data) - 9
    found = tf.ones([size], bool)
    for place, value in fixed:
        found &= tf.equal(data[place : size + place], value)
    after = data[8 : size + 8]
    start = tf.where(found & (tf.equal(after, 0x2C) | tf.equal(after, 0x21)))[:, 0]
    low, high = tf.gather(data, start + 4), tf.gather(data, start + 5)
    return (low + 256 * high) * 10_000
