"""Raw to tensor, in the graph: the same modules run in tf.data and inside the SavedModel.

Each decoder is a `tf.Module` called on a batch of raw items; it returns `(value, mask)` with the
shapes of its modality. An empty string (for numbers: any NaN or infinity) is an absent item: zeros
and a mask that is false everywhere.
"""

import os
import struct
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mmkeras.core import Audio, Image, Modality, Text, Vector
from mmkeras.data.crop import RandomResizedCrop


class ImageDecoder(tf.Module):
    """JPEG, PNG, GIF (first frame) or BMP bytes (B,) -> uint8 (B, H, W, C), bool (B,)."""

    def __init__(self, modality: Image) -> None:
        """Keeps the spec."""
        super().__init__()
        self.modality = modality
        chosen = "random_resized_crop" in modality.augment
        self.crop = RandomResizedCrop(modality) if chosen else None

    def __call__(self, raw: Any, seed: Any = None) -> tuple[Any, Any]:
        """Decodes a batch.

        Args:
            raw: (B,).
            seed: (2,) while training: cuts the random crops that the spec's `augment` declares
                (of a JPEG only the crop is decoded); None decodes whole pictures.
        """
        spec = tf.TensorSpec(self.modality.shape, tf.uint8)
        present = tf.strings.length(raw) > 0
        if seed is None or self.crop is None:
            items = (raw, present)
        else:
            items = (raw, present, self.crop.draw(tf.shape(raw)[0], seed))

        def one(item: Any, real: Any, *drawn: Any) -> Any:
            return tf.cond(
                real, lambda: self._decode(item, *drawn), lambda: tf.zeros(spec.shape, spec.dtype)
            )

        return tf.map_fn(lambda parts: one(*parts), items, fn_output_signature=spec), present

    def _decode(self, item: Any, drawn: Any = None) -> Any:
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
        if drawn is None:
            picture = tf.io.decode_jpeg(item, channels, dct_method="INTEGER_ACCURATE")
            return self.fit(tf.ensure_shape(picture, (None, None, channels)))
        box = self.crop.box(drawn, tf.image.extract_jpeg_shape(item)[:2])
        picture = tf.image.decode_and_crop_jpeg(item, box, channels, dct_method="INTEGER_ACCURATE")
        return self.resize(tf.ensure_shape(picture, (None, None, channels)))

    def _other(
        self, item: Any, channels: int, drawn: Any, convert: Callable[[Any], Any] | None = None
    ) -> Any:
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


class TextDecoder(tf.Module):
    """UTF-8 (B,) -> int32 ids (B, L), bool (B, L). Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, modality: Text, vocabulary_file: str | os.PathLike | None = None) -> None:
        """Makes the lookup.

        Args:
            modality: an adapted spec.
            vocabulary_file: one token per line; with it the table of words is read from this file,
                which a SavedModel then keeps among its assets.
        """
        super().__init__()
        self.modality = modality
        if modality.tokenizer == "wordpiece":
            self.tokenizer = _wordpiece(modality)
        else:
            self.table = tf.lookup.StaticHashTable(self._words(vocabulary_file), default_value=1)

    def _words(self, vocabulary_file: str | os.PathLike | None) -> Any:
        if vocabulary_file is not None:
            lookup = tf.lookup.TextFileIndex
            return tf.lookup.TextFileInitializer(
                os.fspath(vocabulary_file),
                tf.string,
                lookup.WHOLE_LINE,
                tf.int64,
                lookup.LINE_NUMBER,
            )
        words = self.modality.vocabulary
        return tf.lookup.KeyValueTensorInitializer(
            tf.constant(words), tf.range(len(words), dtype=tf.int64)
        )

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Tokenizes a batch."""
        if self.modality.tokenizer == "wordpiece":
            ids = self.tokenizer.tokenize(valid_utf8(raw))
        else:
            words = split_words(raw)
            ids = tf.ragged.map_flat_values(self.table.lookup, words)
        ids = tf.cast(ids, tf.int32)
        length = self.modality.length
        value = ids.to_tensor(shape=(None, length))  # cuts and pads with 0
        mask = tf.sequence_mask(tf.minimum(ids.row_lengths(), length), length)
        return tf.ensure_shape(value, (None, length)), tf.ensure_shape(mask, (None, length))


# Every code point that UTF-8 may encode: surrogates may not stand alone.
_UTF8 = r"[\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]*"


def valid_utf8(raw: Any) -> Any:
    """Replaces what is not UTF-8 by U+FFFD.

    The check is three times cheaper than the replacement, which returns valid text as it is.
    """
    return tf.cond(
        tf.reduce_all(tf.strings.regex_full_match(raw, _UTF8)),
        lambda: raw,
        lambda: tf.strings.unicode_transcode(raw, "UTF-8", "UTF-8", errors="replace"),
    )


def split_words(raw: Any) -> Any:
    """Lower-cased runs of letters, marks and digits, as ragged strings (B, None)."""
    text = tf.strings.lower(valid_utf8(raw), encoding="utf-8")
    text = tf.strings.regex_replace(text, r"[^\p{L}\p{M}\p{N}]+", " ")
    return tf.strings.split(tf.strings.strip(text))


def _wordpiece(modality: Text) -> Any:
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            "tokenizer='wordpiece' needs tensorflow-text: pip install tensorflow-text."
        ) from error
    return tensorflow_text.FastBertTokenizer(
        list(modality.vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=True
    )


_HEADER = 44  # bytes of the usual WAV header


class AudioDecoder(tf.Module):
    """WAV bytes (B,), 16-bit PCM, mono, at the declared rate -> float32 (B, S), bool (B, S)."""

    def __init__(self, modality: Audio) -> None:
        """Keeps the spec."""
        super().__init__()
        self.modality = modality

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Decodes a batch: at once when all its headers are plain, else one item at a time."""
        size = self.modality.num_samples
        plain = tf.reduce_all(self._plain(raw) | (tf.strings.length(raw) == 0))
        value, count = tf.cond(plain, lambda: self._at_once(raw), lambda: self._each(raw))
        value, count = tf.ensure_shape(value, (None, size)), tf.ensure_shape(count, (None,))
        return value, tf.sequence_mask(count, size)

    def _plain(self, raw: Any) -> Any:
        """(B,) whether an item is 44 bytes of header as expected, and then samples alone."""
        length, rate = tf.strings.length(raw), self.modality.rate_hz
        head = tf.io.decode_raw(raw, tf.uint8, fixed_length=_HEADER)
        known = struct.pack("<4sIHHIIHH4s", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data")
        same = tf.reduce_all(head[:, 12:40] == tf.constant(list(known), tf.uint8), axis=1)
        riff = tf.reduce_all(head[:, :4] == tf.constant(list(b"RIFF"), tf.uint8), axis=1)
        wave = tf.reduce_all(head[:, 8:12] == tf.constant(list(b"WAVE"), tf.uint8), axis=1)
        declared = tf.reduce_sum(
            tf.cast(head[:, 40:44], tf.int64) * tf.constant([1, 2**8, 2**16, 2**24], tf.int64),
            axis=1,
        )
        whole = (declared == tf.cast(length - _HEADER, tf.int64)) & (declared > 0)
        return riff & wave & same & whole & (length % 2 == 0)

    def _at_once(self, raw: Any) -> tuple[Any, Any]:
        size = self.modality.num_samples
        pcm = tf.io.decode_raw(raw, tf.int16, fixed_length=_HEADER + 2 * size)
        count = tf.clip_by_value((tf.strings.length(raw) - _HEADER) // 2, 0, size)
        return tf.cast(pcm[:, _HEADER // 2 :], tf.float32) / 32768.0, count

    def _each(self, raw: Any) -> tuple[Any, Any]:
        size = self.modality.num_samples
        spec = (tf.TensorSpec((size,), tf.float32), tf.TensorSpec((), tf.int32))

        def one(item: Any) -> Any:
            return tf.cond(
                tf.strings.length(item) > 0,
                lambda: self._decode(item),
                lambda: (tf.zeros((size,)), tf.constant(0)),
            )

        return tf.map_fn(one, raw, fn_output_signature=spec)

    def _decode(self, item: Any) -> Any:
        wave, rate = tf.audio.decode_wav(item)  # (samples, channels)
        expected = self.modality.rate_hz
        with tf.control_dependencies(
            [
                tf.debugging.Assert(
                    tf.equal(rate, expected),
                    [f"the sampling rate must be {expected} Hz as declared. Received Hz:", rate],
                ),
                tf.debugging.Assert(
                    tf.equal(tf.shape(wave)[1], 1),
                    ["the sound must have one channel. Received channels:", tf.shape(wave)[1]],
                ),
            ]
        ):
            wave = tf.identity(wave)[: self.modality.num_samples, 0]
        count = tf.shape(wave)[0]
        return tf.pad(wave, [[0, self.modality.num_samples - count]]), count


class VectorDecoder(tf.Module):
    """Numbers (B, F) -> standardised float32 (B, F), bool (B,); NaN or infinity: absent."""

    def __init__(self, modality: Vector) -> None:
        """Keeps the spec and its statistics."""
        super().__init__()
        self.modality = modality

    def __call__(self, raw: Any) -> tuple[Any, Any]:
        """Standardises a batch."""
        value = tf.cast(raw, tf.float32)
        mask = tf.reduce_all(tf.math.is_finite(value), axis=1)
        if self.modality.normalize:
            value = (value - tf.constant(self.modality.mean)) / tf.constant(self.modality.scale)
        return tf.where(mask[:, None], value, 0.0), mask


DECODERS = {
    "image": ImageDecoder,
    "text": TextDecoder,
    "audio": AudioDecoder,
    "vector": VectorDecoder,
}


def decoder(modality: Modality, **kwargs: Any) -> tf.Module:
    """Returns the decoder of an adapted modality."""
    return DECODERS[modality.kind](modality, **kwargs)
