"""What the header of an encoded item declares, held against its spec's limit before decoding.

Decoders allocate what a header declares, and a file of some hundred bytes may declare gigabytes.
Everything here reads bytes in the graph and decodes nothing.
"""

from typing import Any

import tensorflow as tf

_PNG = (0x89504E47 - 2**32, 0x0D0A1A0A, 13, 0x49484452)  # magic, length of the header, "IHDR"
_SCANS = 100  # of a progressive JPEG; encoders make about ten, and each goes over all pixels
_BLOCKS = 1 << 13  # of a GIF, runs of full ones counted once: a bound on the time of the walk
_RUN = 1 << 8  # full blocks of a GIF that are looked at together


def jpeg_size(item: Any, limit: int) -> Any:
    """Returns int32 (2,), height and width of a JPEG's bytes (); more pixels are refused.

    So are more than 100 scans (markers "start of scan", which the data of a scan cannot hold).
    """
    size = tf.image.extract_jpeg_shape(item)[:2]
    scans = tf.size(tf.strings.split([item], b"\xff\xda").values) - 1
    few = tf.debugging.Assert(
        scans <= _SCANS, [f"a JPEG must have at most {_SCANS} scans. Received:", scans]
    )
    pixels = tf.reduce_prod(tf.cast(size, tf.float64))
    with tf.control_dependencies([few, _few_pixels(pixels, limit)]):
        return tf.identity(size)


def picture(item: Any, limit: int) -> Any:
    """Returns the bytes () of a PNG, GIF or BMP; other formats and more pixels are refused.

    Of a GIF the pixels of all frames count: they are decoded together, also where one is seen.
    """
    head = tf.io.decode_raw(item, tf.int32, little_endian=False, fixed_length=24)
    count = tf.cond(
        tf.reduce_all(tf.equal(head[:4], _PNG)),
        lambda: tf.reduce_prod(tf.cast(head[4:], tf.float64)),
        lambda: _other(item, limit),
    )
    with tf.control_dependencies([_few_pixels(tf.abs(count), limit)]):
        return tf.identity(item)


def _other(item: Any, limit: int) -> Any:
    """Declared pixels, float64 (), of a GIF or BMP; other formats are refused."""
    start = tf.strings.substr(item, 0, 4)
    gif, bmp = tf.equal(start, b"GIF8"), tf.equal(tf.strings.substr(start, 0, 2), b"BM")
    known = tf.debugging.Assert(
        gif | bmp,
        ["must be a JPEG, PNG, GIF or BMP. Received bytes that begin with", start],
    )
    with tf.control_dependencies([known]):
        return tf.cond(gif, lambda: gif_pixels(item, limit), lambda: _bmp_pixels(item))


def _bmp_pixels(item: Any) -> Any:
    """The signed width and height stand at the bytes 18 and 22."""
    head = tf.io.decode_raw(item, tf.int16, fixed_length=26)
    sides = tf.bitcast(tf.reshape(head[9:13], (2, 2)), tf.int32)
    return tf.reduce_prod(tf.cast(sides, tf.float64))


def _few_pixels(count: Any, limit: int) -> Any:
    return tf.debugging.Assert(
        count <= limit,
        [
            f"must have at most {limit} pixels, as `max_pixels` declares (of a GIF, all frames "
            "together). Received pixels:",
            count,
        ],
    )


def gif_pixels(item: Any, limit: int) -> Any:
    """Returns float64 (): frames of a GIF () times the largest width times the largest height.

    Walks its blocks, without decompressing, to the trailer, to the end of the bytes, or until the
    number is above the limit. Blocks so short that there are 8,192 or more are refused.
    """
    size = tf.strings.length(item)
    data = tf.pad(tf.io.decode_raw(item, tf.uint8), [[0, 32]])

    def at(place: Any) -> Any:
        return tf.cast(data[place], tf.int32)

    def colours(place: Any) -> Any:
        flags = at(place)
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def pair(place: Any) -> Any:
        return at(place) + 256 * at(place + 1)

    def pixels(found: Any) -> Any:
        return tf.reduce_prod(tf.cast(found, tf.float64))

    def in_data(place: Any, found: Any) -> tuple:
        """At the length of a block of data: to the first that is not full, and behind it."""
        lengths = data[place : place + 256 * _RUN : 256]
        full = tf.argmax(tf.concat([lengths, [0]], 0) < 255, output_type=tf.int32)
        place = tf.minimum(place + 256 * full, size)
        return place + 1 + at(place), found, at(place) > 0, tf.constant(True)

    def in_front(place: Any, found: Any) -> tuple:
        """At a frame, an extension, or the end."""
        kind = at(place)
        frame = tf.equal(kind, 0x2C)
        largest = tf.maximum(found, [0, pair(place + 5), pair(place + 7)])
        found = tf.where(frame, largest + [1, 0, 0], found)
        behind = tf.where(frame, 11 + colours(place + 9), 2)
        known = frame | tf.equal(kind, 0x21)
        return place + behind, found, known, known

    def step(count: Any, place: Any, found: Any, inside: Any, _: Any) -> tuple:
        return count + 1, *tf.cond(
            inside, lambda: in_data(place, found), lambda: in_front(place, found)
        )

    def go_on(count: Any, place: Any, found: Any, _: Any, known: Any) -> Any:
        return known & (place < size) & (count < _BLOCKS) & (pixels(found) <= limit)

    start = (
        tf.constant(0),
        13 + colours(10),
        tf.constant([0, 0, 0]),
        tf.constant(False),
        tf.constant(True),
    )
    count, _, found, _, _ = tf.while_loop(go_on, step, start)
    few = tf.debugging.Assert(
        count < _BLOCKS, [f"a GIF must hold less than {_BLOCKS} blocks of unusual length."]
    )
    with tf.control_dependencies([few]):
        return pixels(found)
