"""What the tests of augmentation share: specs, batches with an absent row, seeds."""

import numpy as np
import tensorflow as tf

from mmkeras.core import Audio, Image, Text
from mmkeras.data.augment import OPS
from mmkeras.data.draws import Draws

B, H, W = 6, 9, 11
RATE, S = 8000, 400
ABSENT = 2
ARGUMENTS = {
    "time_shift": {"seconds": 0.01},
    "time_stretch": {"window_seconds": 0.008},
    "word_dropout": {"rate": 0.5},
    "swap": {"rate": 0.7},
    "synonyms": {
        "rate": 0.7,
        "table": {f"w{i}": [f"w{i + 1}", f"w{i + 2}", "other"] for i in range(18)},
    },
}
IMAGE_OPS, AUDIO_OPS, TEXT_OPS = (sorted(OPS[kind]) for kind in ("image", "audio", "text"))
WORDS = ("[PAD]", "[UNK]", *(f"w{i}" for i in range(20)))


def seed(a, b=0):
    return Draws(tf.constant([a, b], tf.uint32))


def spec_of(*ops):
    augment = {op: ARGUMENTS.get(op, {}) for op in ops}
    if ops[0] in OPS["image"]:
        return Image(size=(H, W), augment=augment)
    if ops[0] in OPS["text"]:
        return Text(length=S, vocabulary=WORDS, augment=augment)
    return Audio(rate_hz=RATE, seconds=S / RATE, augment=augment)


def batch_of(spec, rng):
    """A batch whose row ABSENT is absent."""
    if spec.kind == "image":
        value = rng.integers(0, 256, (B, *spec.shape)).astype("uint8")
        mask = np.ones(B, bool)
    else:
        value = rng.uniform(-0.5, 0.5, (B, *spec.shape)).astype("float32")
        if spec.kind == "text":
            value = rng.integers(2, len(WORDS), (B, S)).astype("int32")
        mask = np.ones((B, S), bool)
        mask[0, 300:] = False
        value[0, 300:] = 0
    mask[ABSENT], value[ABSENT] = False, 0
    return value, mask
