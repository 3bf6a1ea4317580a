"""Pictures: bytes or arrays in, uint8 out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Image
from mmkeras.data import limits
from mmkeras.data.columns import Column, decoded, encoded_items, is_array
from mmkeras.data.crop import RandomResizedCrop
from mmkeras.data.draws import Draws
from mmkeras.data.sources import Rows, missing


def column(name: str, modality: Image, rows: Rows, source: str, archive: Any = None) -> Column:
    """Returns paths, bytes, or (of arrays) the pictures at their size."""
    cells = rows.column(source)
    if not is_array(cells):
        return encoded_items(rows, cells, archive)
    return decoded(name, modality, rows, *_pictures(name, modality, rows, cells))


def _pictures(name: str, modality: Image, rows: Rows, cells: Any) -> tuple[np.ndarray, np.ndarray]:
    fit = Decoder(modality).fit
    values = np.zeros((len(cells), *modality.shape), np.uint8)
    mask = np.array([not missing(cell) for cell in cells])
    for row in np.flatnonzero(mask):
        cell = cells[row]
        picture = np.asarray(cell)
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.dtype != np.uint8 or picture.ndim != 3:
            raise ValueError(
                f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a picture must be "
                f"uint8 (H, W) or (H, W, C) in 0..255. Received: shape {picture.shape}, dtype "
                f"{picture.dtype}. Scale it to 0..255 and pass `.astype('uint8')`."
            )
        if picture.shape[-1] != modality.channels:
            if picture.shape[-1] != 1:
                raise ValueError(
                    f"Row {rows.numbers[row]} of {rows.where}, modality {name!r}: a picture must "
                    f"have the declared channels={modality.channels}. Received: "
                    f"{picture.shape[-1]}. Declare Image(channels=...), or convert it."
                )
            picture = np.repeat(picture, modality.channels, axis=-1)
        values[row] = picture if picture.shape == modality.shape else fit(picture).numpy()
    return values, mask


def encode(modality: Image, picture: np.ndarray, mask: np.ndarray) -> bytes:
    """Returns a decoded picture as PNG."""
    return tf.io.encode_png(picture).numpy()


class Decoder(tf.Module):
    """JPEG, PNG, GIF (first frame) or BMP bytes (B,) -> uint8 (B, H, W, C), bool (B,)."""

    def __init__(self, modality: Image) -> None:
        """Keeps the spec."""
        super().__init__()
        self.modality = modality
        chosen = "random_resized_crop" in modality.augment
        self.crop = RandomResizedCrop(modality) if chosen else None

    def __call__(self, raw: Any, draws: Draws | None = None) -> tuple[Any, Any]:
        """Decodes a batch.

        Args:
            raw: (B,).
            draws: while training: cuts the random crops that the spec's `augment` declares
                (of a JPEG only the crop is decoded); None decodes whole pictures.
        """
        spec = tf.TensorSpec(self.modality.shape, tf.uint8)
        present = tf.strings.length(raw) > 0
        if draws is None or self.crop is None:
            items = (raw, present)
        else:
            items = (raw, present, self.crop.draw(tf.shape(raw)[0], draws))

        def one(item: Any, real: Any, *drawn: Any) -> Any:
            return tf.cond(
                real, lambda: self.decode(item, *drawn), lambda: tf.zeros(spec.shape, spec.dtype)
            )

        return tf.map_fn(lambda parts: one(*parts), items, fn_output_signature=spec), present

    def recrop(self, pictures: Any, mask: Any, seed: Any) -> tuple[Any, Any]:
        """Crops decoded pictures (B, H, W, C) at random; see `RandomResizedCrop`."""
        return self.crop.recrop(pictures, seed), mask

    def decode(self, item: Any, drawn: Any = None) -> Any:
        """Bytes of one picture () -> uint8 (H, W, C); `drawn` (4,) is of the random crop."""
        channels = self.modality.channels
        if channels == 3:
            return self._pixels(item, 3, drawn)
        # TensorFlow makes no grey picture of a GIF, nor of a coloured BMP.
        coloured = tf.reduce_any(tf.strings.substr(item, 0, 2) == [b"GI", b"BM"])
        return tf.cond(
            coloured,
            lambda: self._other(item, 3, drawn, tf.image.rgb_to_grayscale),
            lambda: self._pixels(item, 1, drawn),
        )

    def _pixels(self, item: Any, channels: int, drawn: Any) -> Any:
        """Bytes of one picture -> uint8 (H, W, channels).

        JPEG goes through the accurate transform, which other decoders use too; `decode_image`
        takes the fast one, which is up to eight grey levels off.
        """
        return tf.cond(
            tf.io.is_jpeg(item),
            lambda: self._jpeg(item, channels, drawn),
            lambda: self._other(item, channels, drawn),
        )

    def _jpeg(self, item: Any, channels: int, drawn: Any) -> Any:
        size = limits.jpeg_size(item, self.modality.max_pixels)
        if drawn is None:
            with tf.control_dependencies([size]):
                item = tf.identity(item)
            picture = tf.io.decode_jpeg(item, channels, dct_method="INTEGER_ACCURATE")
            return self.fit(tf.ensure_shape(picture, (None, None, channels)))
        box = self.crop.box(drawn, size)
        picture = tf.image.decode_and_crop_jpeg(item, box, channels, dct_method="INTEGER_ACCURATE")
        return self.resize(tf.ensure_shape(picture, (None, None, channels)))

    def _other(
        self, item: Any, channels: int, drawn: Any, convert: Callable[[Any], Any] | None = None
    ) -> Any:
        item = limits.picture(item, self.modality.max_pixels)
        picture = tf.io.decode_image(item, channels, expand_animations=False)
        picture = tf.ensure_shape(picture, (None, None, channels))
        picture = convert(picture) if convert else picture
        if drawn is None:
            return self.fit(picture)
        top, left, height, width = tf.unstack(self.crop.box(drawn, tf.shape(picture)[:2]))
        return self.resize(picture[top : top + height, left : left + width])

    def resize(self, picture: Any) -> Any:
        """Stretches a uint8 picture (..., h, w, C) to the size of the spec."""
        spec = self.modality
        picture = tf.image.resize(
            picture, spec.size, spec.resize, antialias=spec.resize == "bilinear"
        )
        return self._bytes(picture)

    def _bytes(self, picture: Any) -> Any:
        """Means of bytes -> uint8; they stay within 0..255."""
        picture = tf.cast(tf.round(picture), tf.uint8)
        return tf.ensure_shape(picture, (*[None] * (len(picture.shape) - 3), *self.modality.shape))

    def fit(self, picture: Any) -> Any:
        """Brings uint8 pictures (..., h, w, C) to the size of the spec."""
        spec = self.modality
        if picture.shape[-3:] == spec.shape:
            return picture
        if spec.fit == "pad":
            antialias = spec.resize == "bilinear"
            return self._bytes(
                tf.image.resize_with_pad(
                    picture, *spec.size, method=spec.resize, antialias=antialias
                )
            )
        if spec.fit == "crop":
            picture = _crop_to_aspect(picture, *spec.size)
        return self.resize(picture)


def _crop_to_aspect(picture: Any, height: int, width: int) -> Any:
    """Largest centred part with the aspect of height x width."""
    h, w = tf.shape(picture)[-3], tf.shape(picture)[-2]
    crop_h = tf.minimum(h, tf.maximum(w * height // width, 1))
    crop_w = tf.minimum(w, tf.maximum(h * width // height, 1))
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return picture[..., top : top + crop_h, left : left + crop_w, :]
