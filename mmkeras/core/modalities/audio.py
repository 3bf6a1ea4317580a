"""Sounds."""

from dataclasses import dataclass, field
from typing import ClassVar

from mmkeras.core import checks
from mmkeras.core.modality import Modality


@dataclass(frozen=True)
class Audio(Modality):
    """A sound: WAV bytes (16-bit PCM, mono) -> float32 samples (S,) in [-1, 1), S = rate * seconds.

    Longer sounds are cut, shorter ones padded and masked. Features are Keras layers in the graph,
    built by the audio encoders from this spec.

    Args:
        rate_hz: sampling rate; a file of another rate is refused, never resampled in silence.
        seconds: length that the model sees.
        features: "log_mel" or "mfcc".
        num_bands: mel bands.
        num_coefficients: cepstral coefficients kept when `features="mfcc"`.
        window_seconds, hop_seconds: analysis window and step.
        augment: training only, e.g. `{"time_shift": {"seconds": 0.1}, "noise": {"snr_db": 20},
            "spec_augment": {"time_masks": 1}}`; see `mmkeras.data.augment` and
            `mmkeras.layers.SpecAugment`.
        max_samples: a file whose bytes could hold more 16-bit samples is unreadable, before any is
            decoded (the default is 35 minutes at 16 kHz).
    """

    kind: ClassVar[str] = "audio"
    augmentations: ClassVar[tuple[str, ...]] = (
        "gain",
        "noise",
        "spec_augment",
        "time_shift",
        "time_stretch",
    )

    rate_hz: int = 16_000
    seconds: float = 1.0
    features: str = "log_mel"
    num_bands: int = 40
    num_coefficients: int = 13
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    augment: dict[str, dict] = field(default_factory=dict)
    max_samples: int = 2**25

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        for name in ("rate_hz", "num_bands", "num_coefficients", "max_samples"):
            self._whole(name)
        if self.features == "mfcc" and self.num_coefficients > self.num_bands:
            raise ValueError(
                "`num_coefficients` must not exceed `num_bands`. Received: "
                f"num_coefficients={self.num_coefficients}, num_bands={self.num_bands}."
            )
        self._real("window_seconds", 1.0 / self.rate_hz)
        self._real("hop_seconds", 1.0 / self.rate_hz)
        self._real("seconds", self.window_seconds)
        checks.one_of("features", self.features, ("log_mel", "mfcc"))
        self._check_augment()

    @property
    def num_samples(self) -> int:
        """S."""
        return round(self.rate_hz * self.seconds)

    shape = property(lambda self: (self.num_samples,), doc="(S,).")
    dtype = property(lambda self: "float32", doc="Samples in [-1, 1).")
    mask_shape = property(lambda self: (self.num_samples,), doc="(S,): True at real samples.")
