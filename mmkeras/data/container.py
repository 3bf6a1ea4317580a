"""The container of a video: a serialised `tf.train.Example` of encoded frames and their times.

Features: `frames` (bytes: JPEG or PNG each; "" is a frame that is not there), `times` (int64:
microseconds at which each is shown first, ascending), `end` (int64: microseconds at which the last
one ends), `source` (bytes: what it was made of). The frames of a video are found and decoded one
by one, so that sampling sixteen of a thousand costs sixteen.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_FEATURES = {
    "frames": tf.io.FixedLenSequenceFeature((), tf.string, allow_missing=True),
    "times": tf.io.FixedLenSequenceFeature((), tf.int64, allow_missing=True),
    "end": tf.io.FixedLenFeature((), tf.int64),
}


def pack(frames: Sequence[bytes], times: Sequence[int], end: int, source: bytes = b"") -> bytes:
    """Returns a container; the times in microseconds."""

    def held(value: Any, kind: str, make: Any) -> tf.train.Feature:
        return tf.train.Feature(**{kind: make(value=value)})

    features = {
        "frames": held(frames, "bytes_list", tf.train.BytesList),
        "times": held(times, "int64_list", tf.train.Int64List),
        "end": held([end], "int64_list", tf.train.Int64List),
        "source": held([source], "bytes_list", tf.train.BytesList),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def source_of(container: bytes) -> bytes:
    """Returns `source` of a container, or b"" if it is none."""
    try:
        features = tf.train.Example.FromString(container).features.feature
    except Exception:  # of protobuf, whose classes differ between its implementations
        return b""
    return features["source"].bytes_list.value[0] if "source" in features else b""


def unpack(item: Any) -> tuple[Any, Any, Any]:
    """Container () in the graph -> frames (S,), times (S,), end (); what is broken is refused."""
    with tf.control_dependencies(_length_checks(item)):
        held = tf.io.parse_single_example(tf.identity(item), _FEATURES)
    frames, times = held["frames"], held["times"]
    count = tf.shape(times)[0]
    checks = [
        tf.debugging.Assert(
            (tf.shape(frames)[0] == count) & (count > 0),
            ["a container must hold frames and as many times. Received:", tf.shape(frames), count],
        ),
        tf.debugging.Assert(
            tf.reduce_all(times[1:] > times[:-1]),
            ["the times of a container must ascend. Received:", times],
        ),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(frames), times, held["end"]


def _length_checks(item: Any) -> list:
    """Checks the tag and the length in front of an Example (0x0A, varint) against its bytes."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(item, 0, 6) + b"\0" * 6, tf.uint8), tf.int64)
    head = head[:6]
    more = tf.math.cumprod(tf.cast(head[1:] >= 128, tf.int64), exclusive=True)
    size = tf.reduce_sum((head[1:] % 128) * more * 128 ** tf.range(5, dtype=tf.int64))
    whole = 1 + tf.reduce_sum(more) + size
    length = tf.strings.length(item)
    known = tf.debugging.Assert(
        tf.equal(head[0], 0x0A),
        [
            "a video must be an animated GIF, a picture, or a container. Received bytes that begin "
            "with",
            head[:4],
            "- convert MPEG, MP4 and AVI files once with mk.data.convert_videos",
        ],
    )
    with tf.control_dependencies([known]):
        ends = tf.debugging.Assert(
            tf.equal(whole, tf.cast(length, tf.int64)),
            ["the container must be whole. Received bytes:", length, "of", whole],
        )
    return [known, ends]
