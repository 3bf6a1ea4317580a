"""What is unreadable, decided in one place: of whole columns before a training, and of requests."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mmkeras.data.options import untouched


def readable(count: Any, decode: Callable[[Any], tuple[Any, Any]]) -> tf.data.Dataset:
    """Returns (number, value, mask) of those of `count` items that can be decoded, in order.

    Args:
        count: int64 ().
        decode: int64 (1,), an item's number -> its value and mask, (1, ...) each.
    """

    def attempt(number: Any) -> Any:
        value, mask = decode(number[None])
        return number, value[0], mask[0]

    return (
        tf.data.Dataset.range(count)
        .map(attempt, num_parallel_calls=tf.data.AUTOTUNE)
        .ignore_errors(log_warning=False)
    )


def tolerant(decoder: tf.Module, raw: Any) -> tuple[Any, Any, Any]:
    """Decodes a batch of raw items; one that cannot be read is absent. In the graph.

    Unreadable is what `mk.data.table(on_bad="mask")` makes absent: bytes that cannot be decoded or
    hold nothing (a WAV without samples, a clip without frames) or more than the spec allows
    (`max_pixels`, `max_samples`, `max_bytes`), text that is not UTF-8, a vector with some NaN or
    any number that is not `usable` (infinite, or too large for a model), a sequence with such a
    number, a row of a table with such a one or with a number that is none. An absent item ("", NaN)
    is not unreadable.

    Args:
        decoder: of `mmkeras.data.decoder`.
        raw: as its kind takes it, (B, ...).

    Returns:
        value and mask, as of the decoder, and bool (B,): unreadable; of Several, any item is.
    """
    if hasattr(decoder, "items"):
        parts = tolerant(decoder.items, decoder.flat(raw))
        value, mask, bad = (decoder.rows(part) for part in parts)
        return value, mask, tf.reduce_any(bad, axis=1)
    if hasattr(decoder, "broken"):
        bad = decoder.broken(raw)
        absent = tf.constant("" if raw.dtype == tf.string else float("nan"), raw.dtype)
        shaped = tf.reshape(bad, [-1, *[1] * (len(raw.shape) - 1)])
        return *decoder(tf.where(shaped, absent, raw)), bad
    value, mask = _each(decoder, raw)
    there = tf.reduce_any(tf.reshape(mask, [tf.shape(raw)[0], -1]), axis=1)
    return value, mask, ~there & (tf.strings.length(raw) > 0)


def _each(decoder: tf.Module, raw: Any) -> tuple[Any, Any]:
    """Decodes item by item; zeros and a false mask where that raises.

    An input that was left out costs nothing, and a single item no threads.
    """
    spec, count = decoder.modality, tf.shape(raw)[0]

    def nothing(rows: Any) -> tuple[Any, Any]:
        return tf.zeros((rows, *spec.shape), spec.dtype), tf.zeros((rows, *spec.mask_shape), "bool")

    def single() -> tuple[Any, Any]:
        found = tf.data.Dataset.from_tensors(raw).map(decoder).ignore_errors(log_warning=False)
        first = found.concatenate(tf.data.Dataset.from_tensors(nothing(1))).take(1)
        return untouched(first).get_single_element()

    def there() -> tuple[Any, Any]:
        return tf.cond(count == 1, single, lambda: _side_by_side(decoder, raw))

    empty = tf.reduce_all(tf.strings.length(raw) == 0)
    value, mask = tf.cond(empty, lambda: nothing(count), there)
    value = tf.ensure_shape(value, (None, *spec.shape))
    return value, tf.ensure_shape(mask, (None, *spec.mask_shape))


def _side_by_side(decoder: tf.Module, raw: Any) -> tuple[Any, Any]:
    """`_each` on several threads."""
    spec, count = decoder.modality, tf.shape(raw, out_type=tf.int64)[0]
    value, mask = tf.zeros(spec.shape, spec.dtype), tf.zeros(spec.mask_shape, tf.bool)
    none = tf.data.Dataset.from_tensors((count, value, mask))
    found = readable(count, lambda number: decoder(tf.gather(raw, number)))
    batch = untouched(found.concatenate(none).batch(count + 1))
    numbers, values, masks = batch.get_single_element()
    last = tf.size(numbers) - 1  # where `none` stands
    place = tf.tensor_scatter_nd_update(
        tf.repeat(last, count + 1), numbers[:, None], tf.range(last + 1)
    )[:count]
    return tf.gather(values, place), tf.gather(masks, place)
