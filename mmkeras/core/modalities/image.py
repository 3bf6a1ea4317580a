"""Still pictures."""

from dataclasses import dataclass, field
from typing import ClassVar

from mmkeras.core import checks
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Image(Modality):
    """A still picture: JPEG, PNG, GIF (first frame) or BMP bytes -> uint8 (H, W, C) in 0..255.

    Args:
        size: (height, width), or one int for a square, in pixels.
        channels: 1 (grey) or 3 (RGB).
        fit: "stretch" to the size, "pad" with black keeping the aspect, or "crop" the centre.
        resize: "area" (the mean of the pixels that each new one covers: free of aliasing when
            shrinking, three times cheaper than the other; enlarging repeats pixels) or "bilinear"
            (antialiased when shrinking, smooth when enlarging: for pictures below the size).
        augment: training only, e.g. `{"flip": {}, "translate": {"fraction": 0.1}}`; see
            `mmkeras.data.augment` for the list and arguments.
        max_pixels: a file that declares more is unreadable, as its header is read before decoding;
            of a GIF the pixels of all frames count.
    """

    kind: ClassVar[str] = "image"
    augmentations: ClassVar[tuple[str, ...]] = (
        "brightness",
        "color_jitter",
        "contrast",
        "cutout",
        "flip",
        "grid_mask",
        "rand_augment",
        "random_resized_crop",
        "rotate",
        "translate",
        "zoom",
    )

    size: tuple[int, int] = (64, 64)
    channels: int = 3
    fit: str = "stretch"
    resize: str = "area"
    augment: dict[str, dict] = field(default_factory=dict)
    max_pixels: int = 2**25

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        size = (self.size, self.size) if hasattr(self.size, "__index__") else self.size
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise ValueError(
                f"`size` must be (height, width) or one int. Received: size={self.size!r}."
            )
        self._set("size", tuple(checks.whole("size", side) for side in size))
        if self.channels not in (1, 3):
            raise ValueError(
                f"`channels` must be 1 or 3. Received: channels={self.channels!r}. "
                "For other counts pass decoded numbers as a Vector."
            )
        self._set("channels", int(self.channels))
        self._whole("max_pixels")
        checks.one_of("fit", self.fit, ("stretch", "pad", "crop"))
        checks.one_of("resize", self.resize, ("area", "bilinear"))
        self._check_augment()

    shape = property(lambda self: (*self.size, self.channels), doc="(H, W, C).")
    dtype = property(lambda self: "uint8", doc="Pixels stay uint8 until the encoder.")
