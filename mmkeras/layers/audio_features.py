"""Log-mel and MFCC in the graph, and SpecAugment on their frames."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from mmkeras.core import checks, register
from mmkeras.layers.masking import expand_mask

_FLOOR = 1e-6


def _mel_matrix(num_bins: int, num_bands: int, rate_hz: int) -> np.ndarray:
    """Returns float32 (bins, bands): triangles between bands + 2 points, equally far in mel."""
    mel = 1127.0 * np.log1p(np.linspace(0.0, rate_hz / 2, num_bins) / 700.0)[:, None]
    points = np.linspace(1127.0 * np.log1p(20.0 / 700.0), mel[-1, 0], num_bands + 2)
    below, centre, above = points[:-2], points[1:-1], points[2:]
    rise, fall = (mel - below) / (centre - below), (above - mel) / (above - centre)
    return np.maximum(0.0, np.minimum(rise, fall)).astype("float32")


@register
class LogMel(keras.layers.Layer):
    """Waves to log-mel frames, each sample standardised over its own real frames.

    The mel power is that of `keras.layers.MelSpectrogram` (periodic Hann window, reflected ends,
    triangles on the mel scale 1127 ln(1 + f / 700) from 20 Hz to rate / 2), without the square
    root and padding that make up a quarter of its time. Its decibel mode is not used, because it
    clips against the loudest sample of the whole batch, which couples samples and replicas.
    Here: log(max(power, 1e-6)), then (x - mean) / (std + 1e-3) over the sample's real frames and
    bands, so that loudness cancels. Frames are centred: F = 1 + S // hop.

    Args:
        rate_hz: sampling rate.
        num_bands: mel bands M.
        window_seconds, hop_seconds: analysis window and step.
        normalize: whether to standardise per sample.

    Call arguments:
        wave: float32 (B, S).
        mask: bool (B, S).

    Returns:
        `(frames, mask)`: (B, F, M), zero behind false, and bool (B, F); a frame is real when any
        sample of its hop is.
    """

    def __init__(
        self,
        rate_hz: int,
        *,
        num_bands: int = 40,
        window_seconds: float = 0.025,
        hop_seconds: float = 0.010,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments; the layer has no weights and works in float32."""
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.rate_hz = checks.whole("rate_hz", rate_hz)
        self.num_bands = checks.whole("num_bands", num_bands)
        self.window_seconds = checks.real("window_seconds", window_seconds)
        self.hop_seconds = checks.real("hop_seconds", hop_seconds)
        self.normalize = bool(normalize)
        self.window = max(1, round(rate_hz * window_seconds))
        self.hop = max(1, round(rate_hz * hop_seconds))
        self.fft_length = 2 ** math.ceil(math.log2(self.window))
        self.hann = np.hanning(self.window + 1)[:-1].astype("float32")
        self.matrix = _mel_matrix(self.fft_length // 2 + 1, self.num_bands, self.rate_hz)

    def build(self, wave_shape: tuple, mask_shape: tuple = None) -> None:
        """Nothing to build; there are no weights."""

    def call(self, wave: Any, mask: Any) -> tuple[Any, Any]:
        """Returns the frames and their mask."""
        wave = self._mirrored(ops.where(mask, wave, ops.zeros_like(wave)))
        windows = ops.extract_sequences(wave, self.window, self.hop) * self.hann
        real, imaginary = ops.rfft(windows, self.fft_length)
        power = ops.tensordot(real * real + imaginary * imaginary, self.matrix, 1)  # (B, F, M)
        frames = ops.log(ops.maximum(power, _FLOOR))
        mask = self._frame_mask(mask, frames.shape[1])
        real = ops.cast(expand_mask(mask, 3), "float32")
        if self.normalize:
            count = ops.maximum(ops.sum(real, axis=(1, 2), keepdims=True) * self.num_bands, 1.0)
            mean = ops.sum(frames * real, axis=(1, 2), keepdims=True) / count
            centred = (frames - mean) * real
            variance = ops.sum(ops.square(centred), axis=(1, 2), keepdims=True) / count
            return centred / (ops.sqrt(variance) + 1e-3), mask
        return frames * real, mask

    def _mirrored(self, wave: Any) -> Any:
        """Half a window more at both ends: `ops.pad` with "reflect", at a third of its time."""
        left = self.fft_length // 2 - (self.fft_length - self.window) // 2
        right = self.window - left
        if wave.shape[1] <= max(left, right):
            raise ValueError(
                f"A wave must be longer than half a window, {max(left, right)} samples, to be "
                f"reflected at its ends. Received: {wave.shape[1]} samples. Choose smaller "
                "`window_seconds`, or longer waves."
            )
        ends = ops.flip(wave[:, 1 : left + 1], 1), ops.flip(wave[:, -right - 1 : -1], 1)
        return ops.concatenate([ends[0], wave, ends[1]], axis=1)

    def _frame_mask(self, mask: Any, num_frames: int) -> Any:
        pad = num_frames * self.hop - mask.shape[1]
        mask = ops.pad(mask, ((0, 0), (0, pad)), constant_values=False)
        return ops.any(ops.reshape(mask, (-1, num_frames, self.hop)), axis=2)

    def compute_output_spec(self, wave: Any, mask: Any) -> tuple:
        """F = 1 + S // hop frames."""
        batch, frames = wave.shape[0], 1 + wave.shape[1] // self.hop
        return (
            keras.KerasTensor((batch, frames, self.num_bands), "float32"),
            keras.KerasTensor((batch, frames), "bool"),
        )

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("rate_hz", "num_bands", "window_seconds", "hop_seconds", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class MFCC(keras.layers.Layer):
    """Log-mel frames to mel-frequency cepstral coefficients: an orthonormal DCT-II over the bands.

    Call arguments: (B, F, M). Returns (B, F, `num_coefficients`), coefficient 0 included.

    Args:
        num_coefficients: how many of the M coefficients to keep.
    """

    def __init__(self, num_coefficients: int = 13, **kwargs: Any) -> None:
        """Stores the argument; the layer has no weights and works in float32."""
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.num_coefficients = checks.whole("num_coefficients", num_coefficients)

    def build(self, input_shape: tuple) -> None:
        """Checks that there are as many bands; the layer has no weights."""
        if self.num_coefficients > input_shape[-1]:
            raise ValueError(
                "`num_coefficients` must not exceed the number of bands. Received: "
                f"num_coefficients={self.num_coefficients}, {input_shape[-1]} bands."
            )

    def call(self, frames: Any) -> Any:
        """Returns the coefficients."""
        bands = frames.shape[-1]
        n, k = np.arange(bands)[:, None], np.arange(self.num_coefficients)[None, :]
        basis = np.cos(np.pi / bands * (n + 0.5) * k) * math.sqrt(2.0 / bands)
        basis[:, 0] /= math.sqrt(2.0)
        return ops.matmul(frames, ops.convert_to_tensor(basis.astype("float32")))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The last axis becomes the coefficients."""
        return (*input_shape[:-1], self.num_coefficients)

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "num_coefficients": self.num_coefficients}


@register
class SpecAugment(keras.layers.Layer):
    """Zeroes random runs of frames and bands while training (Park et al. 2019, without warping).

    Zero is the mean of a standardised log-mel, as in the paper. Each sample draws its own runs.

    Args:
        time_masks, time_width: number of runs of frames, and their largest length in frames.
        band_masks, band_width: the same over bands.
        seed: of the layer's seed generator.
    """

    def __init__(
        self,
        *,
        time_masks: int = 1,
        time_width: int = 10,
        band_masks: int = 1,
        band_width: int = 8,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Stores the arguments."""
        super().__init__(**kwargs)
        self.time_masks = checks.whole("time_masks", time_masks, 0)
        self.time_width = checks.whole("time_width", time_width)
        self.band_masks = checks.whole("band_masks", band_masks, 0)
        self.band_width = checks.whole("band_width", band_width)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, frames: Any, training: bool = False) -> Any:
        """Returns (B, F, M) with runs zeroed; unchanged when not training."""
        if not training:
            return frames
        batch, time, bands = ops.shape(frames)[0], frames.shape[1], frames.shape[2]
        keep = ops.ones((batch, time, bands), dtype="bool")
        for _ in range(self.time_masks):
            keep = ops.logical_and(keep, self._keep(batch, time, self.time_width)[:, :, None])
        for _ in range(self.band_masks):
            keep = ops.logical_and(keep, self._keep(batch, bands, self.band_width)[:, None, :])
        return ops.where(keep, frames, ops.zeros_like(frames))

    def _keep(self, batch: Any, length: int, width: int) -> Any:
        """(B, length): false on one run of 0..width positions."""
        draw = keras.random.uniform((2, batch, 1), seed=self.seed_generator, dtype="float32")
        run = ops.floor(draw[0] * (min(width, length) + 1))
        start = ops.floor(draw[1] * (length - run + 1))
        position = ops.arange(length, dtype="float32")[None, :]
        return ops.logical_or(position < start, position >= start + run)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The shape stays."""
        return input_shape

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        names = ("time_masks", "time_width", "band_masks", "band_width", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
