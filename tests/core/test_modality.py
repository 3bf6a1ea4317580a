"""Modality specs: what they declare, JSON round trips, argument errors."""

import dataclasses
import json

import numpy as np
import pytest

from mmkeras.core import (
    Audio,
    Image,
    Series,
    Several,
    Table,
    Text,
    Vector,
    Video,
    from_json,
    to_json,
)
from mmkeras.core.modalities import KINDS
from mmkeras.core.spec import from_config
from tests.core.errors import says

SPECS = {
    "image": Image(),
    "image_full": Image(
        size=(7, 5),
        channels=1,
        fit="crop",
        resize="bilinear",
        augment={"zoom": {"fraction": 0.2}, "flip": {}},
    ),
    "image_range": Image(augment={"rotate": {"fraction": (-0.1, 0.2)}}),
    "text": Text(),
    "text_full": Text(
        length=5,
        tokenizer="wordpiece",
        vocabulary_size=9,
        vocabulary=["[PAD]", "[UNK]", "é", "日本", '"\\'],
    ),
    "text_bytes": Text(tokenizer="bytes", augment={"swap": {"rate": 0.2}}),
    "text_segments": Text(vocabulary=("[PAD]", "[UNK]", "[SEP]", "a"), segments=2),
    "text_masked": Text(vocabulary=("[PAD]", "[UNK]", "[MASK]", "a"), mask_token=True),
    "audio": Audio(),
    "audio_full": Audio(
        rate_hz=8000,
        seconds=0.3,
        features="mfcc",
        num_bands=20,
        num_coefficients=7,
        window_seconds=0.032,
        hop_seconds=0.016,
        augment={"time_shift": {"seconds": 0.1}, "spec_augment": {"time_masks": 1}},
    ),
    "vector": Vector(),
    "vector_full": Vector(size=3, mean=(0.1, 1 / 3, -2), scale=(1, 1e-8, 7.7)),
    "vector_plain": Vector(size=2, normalize=False),
    "vector_steps": Vector(size=2, steps=4, mean=(1, 2), scale=(1, 2)),
    "table": Table(numeric=["a"]),
    "table_full": Table(
        numeric=("a", "b"),
        categorical=["c d", "é"],
        vocabulary_size=7,
        mean=[1, 2.5],
        scale=(1, 3),
        vocabularies=[["x", "y"], []],
    ),
    "series": Series(),
    "series_full": Series(
        steps=7,
        channels=2,
        rate_hz=20,
        source_rate_hz=50,
        mean=[0, 1],
        scale=[1, 2.5],
        augment={"jitter": {"sigma": 0.1}, "time_warp": {}},
    ),
    "video": Video(),
    "video_full": Video(
        frames=5,
        size=(7, 5),
        channels=1,
        fps=12.5,
        start="start",
        fit="pad",
        resize="bilinear",
        augment={"temporal_crop": {"scale": (0.5, 1)}, "flip": {}},
    ),
    "several": Several(),
    "several_texts": Several(Text(length=3, vocabulary=("[PAD]", "[UNK]", "é")), count=3),
    "several_clips": Several(Video(frames=4, fps=8), count=2),
}


@pytest.mark.parametrize("name", SPECS)
def test_round_trip_is_equal_and_of_the_same_types(name):
    spec = SPECS[name]
    back = from_json(to_json({name: spec}))[name]
    assert back == spec
    assert type(back) is type(spec)
    for field in dataclasses.fields(spec):
        value = getattr(back, field.name)
        assert type(value) is type(getattr(spec, field.name)), field.name
    assert back.get_config() == spec.get_config()
    assert from_config(json.loads(json.dumps(spec.get_config()))) == spec


def test_order_of_names_and_of_augmentations_is_kept():
    text = to_json(SPECS)
    back = from_json(text)
    assert list(back) == list(SPECS)
    assert list(back["image_full"].augment) == ["zoom", "flip"]
    other = from_json(to_json(dict(reversed(SPECS.items()))))
    assert list(other) == list(reversed(SPECS))
    assert other == SPECS  # as dicts: the same specs
    assert to_json(back) == text


def test_json_is_readable_text():
    text = to_json({"t": SPECS["text_full"]})
    assert "日本" in text  # not \\u escapes
    assert json.loads(text)["modalities"]["t"]["kind"] == "text"


def test_every_kind_is_covered():
    assert {type(spec) for spec in SPECS.values()} == set(KINDS.values())
    assert {name: cls.kind for name, cls in KINDS.items()} == {name: name for name in KINDS}


@pytest.mark.parametrize(
    ("spec", "shape", "dtype", "mask_shape", "raw_shape", "raw_dtype"),
    [
        (Image(size=(7, 5), channels=1), (7, 5, 1), "uint8", (), (), "string"),
        (Image(size=6), (6, 6, 3), "uint8", (), (), "string"),
        (Text(length=5), (5,), "int32", (5,), (), "string"),
        (Audio(rate_hz=8000, seconds=0.1), (800,), "float32", (800,), (), "string"),
        (Vector(size=4), (4,), "float32", (), (4,), "float32"),
        (Vector(size=4, steps=6), (6, 4), "float32", (6,), (None, 4), "float32"),
        (Series(steps=6, channels=2), (6, 2), "float32", (6,), (None, 2), "float32"),
        (Table(numeric=("a",), categorical=("b", "c")), (3,), "float32", (3,), (3,), "string"),
        (Video(frames=5, size=(7, 6), channels=1), (5, 7, 6, 1), "uint8", (5,), (), "string"),
        (Several(Image(size=6), 2), (2, 6, 6, 3), "uint8", (2,), (2,), "string"),
        (Several(Text(length=5), 3), (3, 5), "int32", (3, 5), (3,), "string"),
        (Several(Vector(size=4), 2), (2, 4), "float32", (2,), (2, 4), "float32"),
    ],
)
def test_declared_shapes(spec, shape, dtype, mask_shape, raw_shape, raw_dtype):
    assert spec.shape == shape
    assert spec.dtype == dtype
    assert spec.mask_shape == mask_shape
    assert spec.raw_shape == raw_shape
    assert spec.raw_dtype == raw_dtype


def test_adapted():
    assert Image().adapted and Audio().adapted
    assert not Text().adapted
    assert Text(vocabulary=("[PAD]", "[UNK]")).adapted
    assert not Vector().adapted
    assert not Vector(mean=(0.0,)).adapted  # the scale is still open
    assert Vector(mean=(0.0,), scale=(1.0,)).adapted
    assert Vector(normalize=False).adapted
    assert not Series().adapted and Series(normalize=False).adapted
    assert Series(mean=(0,), scale=(1,)).adapted
    assert not Table(numeric=("a",), categorical=("b",), mean=(0,), scale=(1,)).adapted
    assert not Table(numeric=("a",), categorical=("b",), vocabularies=((),)).adapted
    assert Table(categorical=("b",), vocabularies=((),)).adapted
    assert Table(numeric=("a",), mean=(0,), scale=(1,)).adapted


def test_raw_steps_that_a_series_reads():
    assert Series(steps=9).source_steps == 9
    assert Series(steps=9, rate_hz=50, source_rate_hz=50).source_steps == 9
    assert Series(steps=9, rate_hz=20, source_rate_hz=50).source_steps == 21
    assert Series(steps=8, rate_hz=20, source_rate_hz=50).source_steps == 19  # 17.5 is between
    assert (
        Series(steps=31, rate_hz=30, source_rate_hz=100).source_steps == 101
    )  # 99.99... in floats
    assert Video().adapted and Several(Image()).adapted
    assert not Several(Text()).adapted
    assert Several(Text(vocabulary=("[PAD]", "[UNK]"))).adapted


def test_num_samples_is_rounded():
    assert Audio(rate_hz=44_100, seconds=0.1).num_samples == 4410  # 0.1 * 44100 = 4410.000...1
    assert Audio(rate_hz=8000, seconds=0.29).num_samples == 2320  # 2319.99... in floats


def test_specs_are_frozen_and_replace_checks_again():
    spec = Image(size=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.channels = 1
    other = spec.replace(channels=1)
    assert (other.channels, other.size, spec.channels) == (1, (4, 4), 3)
    with says(ValueError, "`channels` must be 1 or 3", "channels=2"):
        spec.replace(channels=2)


def test_numpy_numbers_become_json_able():
    specs = {
        "i": Image(size=np.int64(6)),
        "t": Text(length=np.int64(5), vocabulary_size=np.int32(9)),
        "a": Audio(rate_hz=np.int64(8000), seconds=np.float32(0.5)),
        "v": Vector(size=np.int64(2), mean=np.zeros(2), scale=np.ones(2, np.float32)),
    }
    assert from_json(to_json(specs)) == specs
    assert specs["i"].size == (6, 6)
    assert isinstance(specs["t"].length, int) and isinstance(specs["a"].seconds, float)


def test_the_given_augment_is_copied():
    given = {"flip": None}
    spec = Image(augment=given)
    given["zoom"] = {}
    assert spec.augment == {"flip": {}}


V = ("[PAD]", "[UNK]")


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: Image(size=0), ["`size` must be a whole number of at least 1", "size=0"]),
        (lambda: Image(size=(4, 2.5)), ["whole number", "size=2.5"]),
        (lambda: Image(size=True), ["whole number", "size=True"]),
        (lambda: Image(size=(1, 2, 3)), ["(height, width) or one int", "size=(1, 2, 3)"]),
        (lambda: Image(size=None), ["(height, width) or one int", "size=None"]),
        (lambda: Image(channels=4), ["must be 1 or 3", "channels=4", "as a Vector"]),
        (lambda: Image(fit="fill"), ["one of ['crop', 'pad', 'stretch']", "fit='fill'"]),
        (lambda: Image(resize="cubic"), ["one of ['area', 'bilinear']", "resize='cubic'"]),
        (
            lambda: Image(augment={"flipp": {}}),
            ["Unknown image augmentation 'flipp'", "Did you mean 'flip'?", "brightness"],
        ),
        (lambda: Image(augment=["flip"]), ["must be a dict", "['flip']", "'brightness': {}"]),
        (
            lambda: Audio(augment={"timeshift": {}}),
            ["Unknown audio augmentation 'timeshift'", "Did you mean 'time_shift'?"],
        ),
        (
            lambda: Table(),
            ["must name at least one column", "numeric=(), categorical=()"],
        ),
        (lambda: Table(numeric=("a", "b"), categorical=("a",)), ["each once", "('a', 'b')"]),
        (
            lambda: Table(numeric="ab"),
            ["must hold names of columns", "numeric='ab'", "('height',)"],
        ),
        (lambda: Table(numeric=("a",), mean=(1, 2)), ["numeric columns=1 numbers", "Received: 2"]),
        (lambda: Table(numeric=("a",), scale=(0,)), ["above 0", "constant column has scale 1"]),
        (
            lambda: Table(categorical=("a",), vocabularies=(("x",), ("y",))),
            ["one tuple per categorical column", "2 for 1"],
        ),
        (
            lambda: Table(categorical=("a",), vocabularies=(("x", "x"),)),
            ["vocabulary of 'a'", "each category once"],
        ),
        (lambda: Table(categorical=("a",), vocabulary_size=1), ["at least 2", "vocabulary_size=1"]),
        (lambda: Series(steps=0), ["`steps`", "at least 1"]),
        (lambda: Series(channels=1.5), ["`channels`", "whole number"]),
        (lambda: Series(rate_hz=0), ["`rate_hz`", "rate_hz=0"]),
        (lambda: Series(source_rate_hz=5), ["Give both", "source_rate_hz=5.0"]),
        (lambda: Series(channels=2, mean=(1,)), ["`channels`=2 numbers", "Received: 1"]),
        (lambda: Vector(steps=0), ["`steps`", "at least 1"]),
        (lambda: Text(length=0), ["`length`", "at least 1", "length=0"]),
        (lambda: Text(vocabulary_size=2), ["at least 3", "vocabulary_size=2"]),
        (
            lambda: Text(tokenizer="bpe"),
            ["one of ['bytes', 'characters', 'wordp", "='bpe'"],
        ),
        (lambda: Text(vocabulary=["a", "b"]), ["'[PAD]', '[UNK]'", "('a', 'b')", "in front"]),
        (
            lambda: Text(vocabulary=V, segments=2),
            ["must start with '[PAD]', '[UNK]', '[SEP]'", "('[PAD]', '[UNK]'", "in front"],
        ),
        (
            lambda: Text(vocabulary=[*V, "a"], tokenizer="bytes"),
            ["must hold 256", "tokens", "Leave `vocabulary` out"],
        ),
        (
            lambda: Text(augment={"word_drop": {}}),
            ["Unknown text augmentation 'word_drop'", "Did you mean 'word_dropout'?"],
        ),
        (
            lambda: Text(vocabulary=[*V, "cat", "dog", "cat"]),
            ["each token once", "['cat']", "Drop"],
        ),
        (lambda: Audio(rate_hz=0), ["`rate_hz`", "at least 1", "rate_hz=0"]),
        (lambda: Audio(rate_hz=8000.0), ["whole number", "rate_hz=8000.0"]),
        (lambda: Audio(seconds=0.01), ["between 0.025", "seconds=0.01"]),
        (lambda: Audio(seconds="1"), ["must be a number", "seconds='1'"]),
        (lambda: Audio(seconds=float("nan")), ["`seconds`", "nan"]),
        (lambda: Audio(seconds=float("inf")), ["`seconds`", "seconds=inf"]),
        (lambda: Audio(window_seconds=1e-6), ["`window_seconds`", "1e-06"]),
        (lambda: Audio(hop_seconds=0), ["`hop_seconds`", "hop_seconds=0"]),
        (lambda: Audio(features="mel"), ["one of ['log_mel', 'mfcc']", "features='mel'"]),
        (
            lambda: Audio(features="mfcc", num_bands=8, num_coefficients=9),
            ["must not exceed `num_bands`", "num_coefficients=9", "num_bands=8"],
        ),
        (lambda: Video(frames=0), ["`frames`", "at least 1", "frames=0"]),
        (lambda: Video(size=(4, 0)), ["`size`", "at least 1", "size=0"]),
        (lambda: Video(channels=2), ["`channels` must be 1 or 3", "channels=2"]),
        (lambda: Video(fps=0), ["`fps` must lie between 0.001 and 1000", "fps=0"]),
        (lambda: Video(fps="25"), ["`fps` must be a number", "fps='25'"]),
        (lambda: Video(start="end"), ["one of ['centre', 'start']", "start='end'"]),
        (lambda: Video(fit="fill"), ["one of ['crop', 'pad', 'stretch']", "fit='fill'"]),
        (
            lambda: Video(augment={"temporal_crops": {}}),
            ["Unknown video augmentation 'temporal_crops'", "Did you mean 'temporal_crop'?"],
        ),
        (lambda: Several("image"), ["the spec of one item", "modality='image'"]),
        (lambda: Several(Several(Image())), ["not Several itself", "mk.Image(size=64)"]),
        (lambda: Several(Table(numeric=("a",))), ["nor a Table", "mk.Image(size=64)"]),
        (lambda: Several(Image(), 0), ["`count`", "at least 1", "count=0"]),
        (lambda: Vector(size=0), ["`size`", "at least 1", "size=0"]),
        (lambda: Vector(size=2, mean=(1.0,)), ["`mean` must hold `size`=2", "Received: 1"]),
        (lambda: Vector(size=1, scale=(1, 2)), ["`scale` must hold `size`=1", "Received: 2"]),
        (lambda: Vector(mean=(float("nan"),)), ["`mean` must hold finite", "(nan,)"]),
        (
            lambda: Vector(scale=(0.0,)),
            ["`scale` must hold finite numbers, above 0", "(0.0,)", "constant column has scale 1"],
        ),
    ],
)
def test_argument_errors(make, parts):
    with says(ValueError, *parts):
        make()
