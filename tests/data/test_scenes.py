"""Scenes: a function of the seed; picture, masks, caption, questions, sound and clip agree."""

import doctest
from collections import Counter

import numpy as np
import pytest

import mmkeras as mk
from mmkeras.core import Image, Text
from mmkeras.data import scenes
from mmkeras.data.scenes import COLORS, DIRECTIONS, SHAPES, Object, Scene
from tests.core.errors import says
from tests.data import files

COUNT = 150


@pytest.fixture(scope="module")
def made():
    return scenes.generate(COUNT, seed=3)


def test_a_scene_is_a_function_of_seed_and_number(made):
    again = scenes.generate(5, seed=3)
    assert again == made[:5]  # the number of scenes is without effect
    for one, two in zip(made, again, strict=False):
        for name in ("image", "masks", "sound", "caption"):
            files.same(getattr(one, name), getattr(two, name))
        files.same(one.clip(3), two.clip(3))
        files.same(one.image, one.image)
    other = scenes.generate(5, seed=4)
    assert all(a.objects != b.objects for a, b in zip(other, made, strict=False))
    assert len({scene.objects for scene in made}) == COUNT
    assert not np.array_equal(made[0].image, other[0].image)


def test_objects_are_of_every_kind_in_order_and_apart(made):
    objects = [o for scene in made for o in scene.objects]
    assert Counter(len(scene.objects) for scene in made).keys() == {1, 2, 3}
    assert {o.shape for o in objects} == set(SHAPES)
    assert {o.color for o in objects} == set(COLORS)
    assert {o.direction for o in objects} == set(DIRECTIONS)
    for scene in made:
        assert [o.x for o in scene.objects] == sorted(o.x for o in scene.objects)
        masks = scene.masks
        assert masks.shape == (len(scene.objects), 64, 64) and masks.dtype == bool
        assert masks.sum(axis=0).max() == 1  # no two overlap
        assert (masks.sum(axis=(1, 2)) > 50).all()


def test_objects_lie_wholly_in_the_picture(made):
    for scene in made:
        for o, mask in zip(scene.objects, scene.masks, strict=True):
            shifted = Object(o.shape, o.color, o.y + 64, o.x + 64, o.radius, o.direction)
            assert shifted.mask(192).sum() == mask.sum()  # nothing is cut off
            y, x = np.nonzero(mask)
            assert abs((x.min() + x.max() + 1) / 2 - o.x) <= 1
            assert y.min() <= o.y <= y.max() + 1


def test_shapes_have_their_area():
    r = 20.0
    areas = {
        "circle": np.pi * r**2,
        "square": (1.7 * r) ** 2,
        "triangle": 1.75 * r * (1.75 * r) / 2,
        "cross": 4 * 0.6 * r * r - (0.6 * r) ** 2,
    }
    for shape in SHAPES:
        area = Object(shape, "red", 32, 32, r, "up").mask(64).sum()
        assert abs(area / areas[shape] - 1) < 0.05, shape


def test_masks_match_the_colours_of_the_picture(made):
    for scene in made[:40]:
        picture = scene.image
        assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
        for o, mask in zip(scene.objects, scene.masks, strict=True):
            mean = picture[mask].mean(axis=0)
            assert np.abs(mean - COLORS[o.color]).max() < 4, o
            nearest = min(COLORS, key=lambda c: np.abs(mean - COLORS[c]).sum())
            assert nearest == o.color
        ground = picture[~scene.masks.any(axis=0)]
        assert np.abs(ground.mean(axis=0) - 30).max() < 2
        assert 4 < ground.std() < 8  # pixel noise
        assert ground.max() < 65  # no colour outside the masks


def test_caption(made):
    for scene in made:
        names = [f"a {o.color} {o.shape}" for o in scene.objects]
        expected = {
            1: "{0}",
            2: "{0} and {1}",
            3: "{0}, {1} and {2}",
        }[len(names)].format(*names)
        assert scene.caption == expected


def answer(scene, question):
    """The answers to a question by the objects alone: a set, as names may be shared."""
    words = question.rstrip("?").split()
    things = [(o.color, o.shape, o.x) for o in scene.objects]
    if words[:2] == ["how", "many"]:
        return {["one", "two", "three"][len(things) - 1]}
    if words[:2] == ["what", "color"]:
        return {color for color, shape, _ in things if shape == words[-1]}
    if words[:2] == ["what", "shape"]:
        return {shape for color, shape, _ in things if color == words[-2]}
    if words[:2] == ["is", "there"]:
        return {"yes" if any(t[:2] == tuple(words[-2:]) for t in things) else "no"}
    assert words[:2] == ["is", "the"] and words[4:7] == ["left", "of", "the"]
    first = [x for *name, x in things if name == words[2:4]]
    second = [x for *name, x in things if name == words[7:9]]
    return {"yes" if a < b else "no" for a in first for b in second}


def test_questions_have_one_answer_each(made):
    kinds = Counter()
    for scene in made:
        asked = list(scene.questions())
        assert len({q for q, _ in asked}) == len(asked), scene.objects
        for question, said in asked:
            assert answer(scene, question) == {said}, (question, scene.objects)
            kinds[" ".join(question.split()[:2])] += 1
        assert sum(q.startswith("is there") for q, _ in asked) == 24
    assert set(kinds) == {"how many", "what color", "what shape", "is there", "is the"}


def test_objects_of_the_same_name_are_not_asked_about():
    def thing(color, shape, x):
        return Object(shape, color, 32.0, x, 8.0, "up")

    red = [thing("red", "circle", x) for x in (10.0, 50.0)]
    scene = Scene((red[0], thing("blue", "square", 30.0), red[1]), 64, (0, 0))
    asked = dict(scene.questions())
    assert len(asked) == len(list(scene.questions()))
    assert not [q for q in asked if "left of" in q]
    assert "what color is the circle?" not in asked
    assert asked["what color is the square?"] == "blue"
    assert asked["what shape is the blue object?"] == "square"
    assert asked["how many shapes are there?"] == "three"


def test_sound(made):
    for scene in made[:20]:
        sound = scene.sound
        assert sound.dtype == np.float32 and sound.shape == (1600 * len(scene.objects),)
        assert -1.0 <= sound.min() and sound.max() < 1.0
        for number, o in enumerate(scene.objects):
            part = sound[number * 1600 : (number + 1) * 1600]
            assert 0.02 < part[100:600].std() < 0.4
            spectrum = np.abs(np.fft.rfft(part[:800] * np.hanning(800), 8000))
            pitch = 200 * 2 ** (list(COLORS).index(o.color) / 5)
            low = int(spectrum[150:450].argmax()) + 150  # of the fundamentals, 200 to 400 Hz
            assert abs(low / pitch - 1) < 0.05, (o, low)


def test_timbre_is_the_shape():
    def brightness(shape):
        o = Object(shape, "red", 32, 32, 8, "up")
        spectrum = np.abs(np.fft.rfft(Scene((o,), 64, (0, 0)).sound)) ** 2
        return spectrum[60:].sum() / spectrum[:60].sum()

    values = [brightness(shape) for shape in SHAPES]
    assert values == sorted(values, reverse=True)  # fewer overtones from shape to shape


def test_clip_moves_each_object_in_its_direction(made):
    for scene in made[:12]:
        clip = scene.clip(frames=4, speed=2.0)
        assert clip.shape == (4, 64, 64, 3) and clip.dtype == np.uint8
        assert np.abs(clip[0].astype(int) - scene.image)[scene.masks.any(axis=0)].max() < 60
        for o, mask in zip(scene.objects, scene.masks, strict=True):
            assert np.abs(clip[0][mask].mean(axis=0) - COLORS[o.color]).max() < 4
    for direction, (dy, dx) in DIRECTIONS.items():
        o = Object("circle", "white", 32.0, 32.0, 8.0, direction)
        clip = Scene((o,), 64, (1, 2)).clip(frames=5, speed=3.0)
        centres = [np.mean(np.nonzero(frame[..., 0] > 130), axis=1) for frame in clip]
        np.testing.assert_allclose(np.diff(centres, axis=0), [[3 * dy, 3 * dx]] * 4, atol=0.2)
        assert {"left": dx < 0, "right": dx > 0, "up": dy < 0, "down": dy > 0}[direction]
        assert not np.array_equal(clip[0] > 130, clip[1] > 130)


def test_size_and_number_of_objects():
    for scene in scenes.generate(20, seed=1, size=32, max_objects=1):
        assert scene.image.shape == (32, 32, 3) and len(scene.objects) == 1
        assert 3.5 <= scene.objects[0].radius <= 5.5
    assert max(len(s.objects) for s in scenes.generate(20, max_objects=2)) == 2
    for wrong in (0, 4, "2"):
        with says(ValueError, "`max_objects` must be 1, 2 or 3", f"Received: {wrong!r}"):
            scenes.generate(1, max_objects=wrong)
    with says(ValueError, "`size`", "at least 32", "size=31"):
        scenes.generate(1, size=31)
    with says(ValueError, "`count`", "at least 1", "count=0"):
        scenes.generate(0)


def test_questions_as_columns():
    columns = scenes.questions(200, seed=5, size=32)
    assert list(columns) == ["image", "question", "answer", "scene"]
    made = scenes.generate(200, seed=5, size=32)
    counts = Counter(columns["scene"])
    assert set(counts) == set(range(200)) and set(counts.values()) == {3, 4}
    for number, count in counts.items():  # a scene of two equal objects settles three kinds
        names = [(o.color, o.shape) for o in made[number].objects]
        assert count == 4 or len(names) > 1 and len(set(names)) == 1
    kinds, truths = Counter(), Counter()
    for image, question, said, number in zip(*columns.values(), strict=True):
        if number % 20 == 0:
            files.same(image, made[number].image)
        assert answer(made[number], question) == {said}
        kind = " ".join(question.split()[:2])
        kinds[kind] += 1
        truths[kind, said] += 1
    assert set(kinds) == {"how many", "what color", "what shape", "is there", "is the"}
    assert min(kinds.values()) > 60
    for kind in ("is there", "is the"):
        share = truths[kind, "yes"] / kinds[kind]
        assert 0.4 < share < 0.6, (kind, share)
    pairs = list(zip(columns["scene"], columns["question"], strict=True))
    assert len(set(pairs)) == len(pairs)  # no question twice
    again = scenes.questions(3, seed=5, size=32)
    assert again["question"] == columns["question"][:12]
    assert scenes.questions(3, seed=6, size=32)["question"] != again["question"]


def test_questions_train_with_table():
    data = mk.data.table(
        scenes.questions(12, seed=0, size=32),
        {"image": Image(size=16), "question": Text(length=10)},
        "answer",
        valid=0.25,
        group="scene",
    )
    assert len(data.splits["train"]) == 36 and len(data.splits["valid"]) == 12
    x, y = files.numpy(data.train(6))[0]
    assert x["image"].shape == (6, 16, 16, 3) and x["image_mask"].all()
    assert x["question_mask"].any(axis=1).all() and y["answer"].max() < len(data.classes)
    held = {files.np.asarray(i).tobytes() for i in _pictures(data, "valid")}
    assert held.isdisjoint(i.tobytes() for i in _pictures(data, "train"))


def _pictures(data, split):
    return [image for x, _ in files.numpy(data.batches(split, 12)) for image in x["image"]]


def test_the_docstring_runs():
    tried = doctest.testmod(scenes)
    assert tried.attempted >= 2 and not tried.failed
