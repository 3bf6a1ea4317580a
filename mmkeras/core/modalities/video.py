"""Moving pictures."""

from dataclasses import dataclass, field
from typing import ClassVar

from mmkeras.core import checks
from mmkeras.core.modalities.image import Image
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Video(Modality):
    """A clip -> uint8 (N, H, W, C) in 0..255 and a mask (N,), N = `frames`.

    Raw: one string, the bytes of an animated GIF, of a single picture (JPEG, PNG, BMP: one frame),
    or of the container that `mk.data.convert_videos` makes of MPEG, MP4 and AVI files once.

    Frame i is the one that is shown at the time t0 + i / fps of the source, by the source's own
    times (to within half a millisecond), so that a variable frame rate is sampled right. A video
    that has ended by then has a false mask there, at the end. t0 is 0 for `start="start"`, and
    (seconds of the source - N / fps) / 2, but not below 0, for `start="centre"`.

    Args:
        frames: N.
        size: (height, width), or one int for a square, in pixels.
        channels: 1 (grey) or 3 (RGB).
        fps: frames per second at which the source is sampled; None takes every frame of the
            source, whatever its times. Arrays are taken frame by frame.
        start: "centre" or "start": which part of a longer video is seen.
        fit, resize: as of `Image`.
        augment: training only, e.g. `{"flip": {}, "temporal_crop": {"scale": (0.8, 1.0)}}`; drawn
            once per video, the same for all its frames. See `mmkeras.data.augment`.
        max_pixels: of a frame, and of all frames of a GIF together, which are decoded at once; a
            file that declares more is unreadable.
    """

    kind: ClassVar[str] = "video"
    augmentations: ClassVar[tuple[str, ...]] = (
        "brightness",
        "contrast",
        "flip",
        "rotate",
        "temporal_crop",
        "translate",
        "zoom",
    )

    frames: int = 16
    size: tuple[int, int] = (64, 64)
    channels: int = 3
    fps: float | None = None
    start: str = "centre"
    fit: str = "stretch"
    resize: str = "area"
    augment: dict[str, dict] = field(default_factory=dict)
    max_pixels: int = 2**25

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("frames")
        picture = self.picture
        self._set("size", picture.size)
        self._set("channels", picture.channels)
        if self.fps is not None:
            self._set("fps", checks.real("fps", self.fps, 1e-3, 1e3))
        checks.one_of("start", self.start, ("centre", "start"))
        self._check_augment()

    @property
    def picture(self) -> Image:
        """The spec of one frame."""
        size, channels = self.size, self.channels
        return Image(size, channels, self.fit, self.resize, max_pixels=self.max_pixels)

    shape = property(lambda self: (self.frames, *self.size, self.channels), doc="(N, H, W, C).")
    dtype = property(lambda self: "uint8", doc="Pixels stay uint8 until the encoder.")
    mask_shape = property(lambda self: (self.frames,), doc="(N,): True at real frames.")
