"""Random crops, cut while a picture or a clip is decoded; training only."""

from typing import Any

import tensorflow as tf

from mmkeras.core import Image, Video, checks
from mmkeras.data.draws import Draws


class RandomResizedCrop:
    """Draws a box per picture, of random area and aspect, that is then resized to the spec's size.

    After Szegedy et al. 2015.

    The area is uniform in `scale`, the logarithm of the aspect uniform in `ratio`; an aspect of
    which no box of that area fits into the picture is moved to the nearest that does (others
    draw again, and fall back to the centre). The crop is stretched to the size whatever `fit` is.

    Args:
        modality: an `Image` whose `augment` holds "random_resized_crop": {"scale", "ratio"}.
    """

    def __init__(self, modality: Image) -> None:
        """Checks the arguments."""
        self.size = modality.size
        given = dict(modality.augment["random_resized_crop"])
        self.scale = _range(given, "scale", (0.08, 1.0), 1.0)
        self.ratio = _range(given, "ratio", (3 / 4, 4 / 3), float("inf"))
        _nothing_left("random_resized_crop", given, "the arguments 'scale' and 'ratio'")

    def draw(self, batch: Any, draws: Draws) -> Any:
        """Returns float32 (batch, 4): area share, aspect, and position from top and left."""
        low = (self.scale[0], tf.math.log(self.ratio[0]), 0.0, 0.0)
        high = (self.scale[1], tf.math.log(self.ratio[1]), 1.0, 1.0)
        drawn = draws.uniform(batch, 4)
        drawn = tf.stack(low) + drawn * (tf.stack(high) - tf.stack(low))
        return tf.concat([drawn[:, :1], tf.exp(drawn[:, 1:2]), drawn[:, 2:]], axis=1)

    def box(self, drawn: Any, size: Any) -> Any:
        """Returns int32 (..., 4): top, left, height, width.

        Args:
            drawn: (..., 4) from `draw`.
            size: (..., 2) height and width of the picture, in pixels.
        """
        size = tf.cast(size, tf.float32)
        height, width = size[..., 0], size[..., 1]
        share = drawn[..., 0]
        aspect = tf.clip_by_value(drawn[..., 1], share * width / height, width / height / share)
        side = tf.sqrt(share * height * width)
        crop = tf.stack([side * tf.math.rsqrt(aspect), side * tf.sqrt(aspect)], axis=-1)
        crop = tf.clip_by_value(tf.round(crop), 1.0, size)
        start = tf.floor(drawn[..., 2:] * (size - crop + 1.0))
        return tf.cast(tf.concat([tf.minimum(start, size - crop), crop], axis=-1), tf.int32)

    def recrop(self, pictures: Any, draws: Draws) -> Any:
        """Crops pictures (B, H, W, C) that are decoded already, bilinearly, back to their size."""
        batch = tf.shape(pictures)[0]
        size = tf.constant(self.size)
        box = tf.cast(
            self.box(self.draw(batch, draws), tf.tile(size[None], (batch, 1))), tf.float32
        )
        edges = tf.concat([box[:, :2], box[:, :2] + box[:, 2:] - 1.0], axis=1)
        edges /= tf.maximum(tf.cast(tf.tile(size, (2,)), tf.float32) - 1.0, 1.0)
        cut = tf.image.crop_and_resize(pictures, edges, tf.range(batch), self.size)
        return tf.saturate_cast(tf.round(cut), tf.uint8)


class TemporalCrop:
    """Draws a part of every clip, that is then seen in as many frames.

    While bytes are decoded it is the part of the source: the N frames of the spec are taken from a
    random start, and their distance is multiplied by a share, uniform in `scale`. Of clips that
    are decoded already (arrays, or cached) only their real frames are there: that share of them is
    taken, from a random start, each frame repeated where need be.

    Args:
        modality: a `Video` whose `augment` holds "temporal_crop": {"scale"}.
    """

    def __init__(self, modality: Video) -> None:
        """Checks the arguments."""
        given = dict(modality.augment["temporal_crop"])
        self.scale = _range(given, "scale", (0.8, 1.0), 1.0, "temporal_crop")
        _nothing_left("temporal_crop", given, "the argument 'scale'")

    def draw(self, batch: Any, draws: Draws) -> Any:
        """Returns float32 (batch, 2): position of the part in [0, 1), and its share."""
        drawn = draws.uniform(batch, 2)
        low, high = self.scale
        return tf.stack([drawn[:, 0], low + drawn[:, 1] * (high - low)], axis=1)

    def recrop(self, clips: Any, mask: Any, draws: Draws) -> tuple[Any, Any]:
        """Cuts clips (B, N, H, W, C) up to their last real frame; their masks (B, N) with them."""
        places = tf.range(mask.shape[1])
        count = tf.reduce_max(tf.where(mask, places + 1, 0), axis=1, keepdims=True)
        position, share = tf.split(self.draw(tf.shape(clips)[0], draws), 2, axis=1)
        first = position * (1.0 - share) * tf.cast(count, tf.float32)
        source = tf.cast(first + tf.cast(places, tf.float32) * share, tf.int32)
        source = tf.minimum(source, tf.maximum(count - 1, 0))
        mask = tf.gather(mask, source, batch_dims=1) & (places < count)
        return tf.gather(clips, source, batch_dims=1), mask


def _nothing_left(augmentation: str, given: dict, known: str) -> None:
    if given:
        raise ValueError(
            f"The augmentation {augmentation!r} knows {known}. Received: {sorted(given)}. "
            "Leave them out."
        )


def _range(
    arguments: dict,
    name: str,
    default: tuple[float, float],
    maximum: float,
    augmentation: str = "random_resized_crop",
) -> tuple[float, float]:
    """Takes (low, high) with 0 < low <= high <= maximum out of the arguments."""
    given = arguments.pop(name, default)
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ValueError(f"`{name}` of {augmentation!r} must be (low, high). Received: {given!r}.")
    low, high = (checks.real(name, number, 0.0, maximum) for number in given)
    if not 0.0 < low <= high:
        raise ValueError(
            f"`{name}` of {augmentation!r} must be (low, high) with 0 < low <= high. "
            f"Received: {given!r}."
        )
    return low, high
