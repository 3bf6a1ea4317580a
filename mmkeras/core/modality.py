"""Modality specs: one frozen, JSON-able declaration per input.

The tf.data pipeline, the model's Inputs, the augmentation and the serving signature all come from
these objects, so that what is served is what was trained. Shapes below: H, W, C = height, width,
channels; L = text length; S = audio samples; F = numbers of a vector. A batch holds `name`
(the value) and `name_mask` (`mask_shape` behind the batch axis, True = real).
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mmkeras.core import checks
from mmkeras.core.identifiers import nearest


@dataclass(frozen=True)
class Modality:
    """What every modality declares.

    Attributes:
        kind: name of the kind in configs and encoder tables.
        raw_dtype, raw_shape: one raw item as a signature takes it (without the batch axis).
        shape, dtype: the decoded value, without the batch axis.
        mask_shape: `()` for a modality without time, `(T,)` for a sequence.
        adapted: whether everything that is learnt from training rows is there.
    """

    kind: ClassVar[str] = ""
    augmentations: ClassVar[tuple[str, ...]] = ()
    raw_dtype: ClassVar[str] = "string"

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw item; `()` is one string."""
        return ()

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of one sample's mask."""
        return ()

    @property
    def adapted(self) -> bool:
        """Whether nothing is left to learn from training rows."""
        return True

    def get_config(self) -> dict[str, Any]:
        """Returns a JSON-able dict that `core.spec.from_config` turns back into an equal spec."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    def replace(self, **changes: Any) -> "Modality":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _whole(self, name: str, minimum: int = 1) -> None:
        self._set(name, checks.whole(name, getattr(self, name), minimum))

    def _real(self, name: str, minimum: float) -> None:
        self._set(name, checks.real(name, getattr(self, name), minimum))

    def _check_augment(self) -> None:
        if not isinstance(self.augment, Mapping):
            raise ValueError(
                "`augment` must be a dict of name -> arguments. Received: "
                f"augment={self.augment!r}. Write e.g. {{{self.augmentations[0]!r}: {{}}}}."
            )
        augment = {
            name: {k: list(v) if isinstance(v, tuple) else v for k, v in (given or {}).items()}
            for name, given in self.augment.items()
        }
        for name in augment:
            if name not in self.augmentations:
                raise ValueError(
                    f"Unknown {self.kind} augmentation {name!r}. "
                    f"{nearest(name, self.augmentations)}"
                )
        self._set("augment", augment)


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
    """

    kind: ClassVar[str] = "image"
    augmentations: ClassVar[tuple[str, ...]] = (
        "brightness",
        "contrast",
        "flip",
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
        checks.one_of("fit", self.fit, ("stretch", "pad", "crop"))
        checks.one_of("resize", self.resize, ("area", "bilinear"))
        self._check_augment()

    shape = property(lambda self: (*self.size, self.channels), doc="(H, W, C).")
    dtype = property(lambda self: "uint8", doc="Pixels stay uint8 until the encoder.")


@dataclass(frozen=True)
class Text(Modality):
    """A sentence: UTF-8 -> int32 token ids (L,), 0 = padding, 1 = unknown.

    Args:
        length: number of tokens L; longer texts are cut, shorter ones padded and masked.
        tokenizer: "words" (lower-cased runs of letters and digits; TensorFlow core ops only) or
            "wordpiece" (tensorflow_text).
        vocabulary_size: largest vocabulary that is learnt, special tokens included.
        vocabulary: the tokens by id; learnt from the training rows when None. The first two must
            be "[PAD]" and "[UNK]".
    """

    kind: ClassVar[str] = "text"

    length: int = 32
    tokenizer: str = "words"
    vocabulary_size: int = 10_000
    vocabulary: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("length")
        self._whole("vocabulary_size", 3)
        checks.one_of("tokenizer", self.tokenizer, ("words", "wordpiece"))
        if self.vocabulary is not None:
            self._set("vocabulary", tuple(self.vocabulary))
            if self.vocabulary[:2] != ("[PAD]", "[UNK]"):
                raise ValueError(
                    "`vocabulary` must start with '[PAD]', '[UNK]'. "
                    f"Received: {self.vocabulary[:2]}. Put the two in front."
                )
            if len(set(self.vocabulary)) != len(self.vocabulary):
                twice = [t for t, n in Counter(self.vocabulary).items() if n > 1]
                raise ValueError(
                    f"`vocabulary` must hold each token once. Received twice: {twice[:5]}. "
                    "Drop the repetitions."
                )

    shape = property(lambda self: (self.length,), doc="(L,).")
    dtype = property(lambda self: "int32", doc="Token ids.")
    mask_shape = property(lambda self: (self.length,), doc="(L,): True at real tokens.")
    adapted = property(lambda self: self.vocabulary is not None, doc="Has its vocabulary.")


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
    """

    kind: ClassVar[str] = "audio"
    augmentations: ClassVar[tuple[str, ...]] = ("noise", "spec_augment", "time_shift")

    rate_hz: int = 16_000
    seconds: float = 1.0
    features: str = "log_mel"
    num_bands: int = 40
    num_coefficients: int = 13
    window_seconds: float = 0.025
    hop_seconds: float = 0.010
    augment: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        for name in ("rate_hz", "num_bands", "num_coefficients"):
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


@dataclass(frozen=True)
class Vector(Modality):
    """Numbers without order in time: float32 (F,), standardised.

    Args:
        size: F.
        mean, scale: per number; the value becomes (raw - mean) / scale. Learnt from the training
            rows when None (a constant column gets scale 1).
        normalize: False leaves the numbers as they are.
    """

    kind: ClassVar[str] = "vector"
    raw_dtype: ClassVar[str] = "float32"

    size: int = 1
    normalize: bool = True
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Checks and normalises the arguments."""
        self._whole("size")
        for name in ("mean", "scale"):
            if getattr(self, name) is not None:
                self._set(name, self._statistic(name))

    def _statistic(self, name: str) -> tuple[float, ...]:
        value = tuple(float(v) for v in getattr(self, name))
        if len(value) != self.size:
            raise ValueError(
                f"`{name}` must hold `size`={self.size} numbers. Received: {len(value)}."
            )
        if not all(map(math.isfinite, value)) or (name == "scale" and min(value) <= 0):
            raise ValueError(
                f"`{name}` must hold finite numbers{', above 0' if name == 'scale' else ''}. "
                f"Received: {value}. A constant column has scale 1."
            )
        return value

    shape = property(lambda self: (self.size,), doc="(F,).")
    raw_shape = property(lambda self: (self.size,), doc="(F,).")
    dtype = property(lambda self: "float32", doc="Standardised numbers.")
    adapted = property(
        lambda self: not self.normalize or (self.mean is not None and self.scale is not None),
        doc="Has its mean and scale.",
    )


KINDS = {cls.kind: cls for cls in (Image, Text, Audio, Vector)}
