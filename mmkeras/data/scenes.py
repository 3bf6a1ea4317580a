"""Scenes: a seeded generator of small multimodal samples, for examples and tests without a file.

A scene is a dark picture with one to three coloured shapes that do not overlap. From the same
objects come a caption, questions with answers, a mask per object, a tone sequence (one "syllable"
per object from left to right, pitch = colour, timbre = shape) and a clip in which each object
moves steadily in its direction. A scene is a function of (seed, its number) alone.

>>> scene = generate(1, seed=0)[0]
>>> scene.image.shape, scene.masks.shape[1:], scene.clip().shape
((64, 64, 3), (64, 64), (8, 64, 64, 3))
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmkeras.core import checks

SHAPES = ("circle", "square", "triangle", "cross")
COLORS = {
    "red": (220, 50, 47),
    "green": (70, 170, 60),
    "blue": (50, 90, 220),
    "yellow": (235, 200, 40),
    "purple": (160, 70, 190),
    "white": (235, 235, 235),
}
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
NUMBERS = ("one", "two", "three")
RATE_HZ = 8000
SYLLABLE_SECONDS = 0.2


@dataclass(frozen=True)
class Object:
    """One shape: names, centre (y, x) and radius in pixels, and where it moves."""

    shape: str
    color: str
    y: float
    x: float
    radius: float
    direction: str

    def mask(self, size: int, shift: float = 0.0) -> np.ndarray:
        """Returns bool (size, size): the pixels of the shape, moved by `shift` pixels."""
        step_y, step_x = DIRECTIONS[self.direction]
        grid = np.arange(size) + 0.5
        dy = grid[:, None] - self.y - shift * step_y
        dx = grid[None, :] - self.x - shift * step_x
        r = self.radius
        if self.shape == "circle":
            return dy**2 + dx**2 <= r**2
        if self.shape == "square":
            return np.maximum(abs(dy), abs(dx)) <= 0.85 * r
        if self.shape == "triangle":
            return (dy <= 0.75 * r) & (dy >= 2 * abs(dx) - r)
        return (np.minimum(abs(dy), abs(dx)) <= 0.3 * r) & (np.maximum(abs(dy), abs(dx)) <= r)


@dataclass(frozen=True)
class Scene:
    """One sample; everything but the objects is derived from them.

    Attributes:
        objects: from left to right.
        size: side of the picture in pixels.
        seed: of the pixel and sound noise.
    """

    objects: tuple[Object, ...]
    size: int
    seed: tuple[int, int]

    @property
    def image(self) -> np.ndarray:
        """uint8 (size, size, 3)."""
        return self._paint(0.0, np.random.default_rng([*self.seed, 1]))

    @property
    def masks(self) -> np.ndarray:
        """bool (number of objects, size, size), in the objects' order."""
        return np.stack([o.mask(self.size) for o in self.objects])

    @property
    def caption(self) -> str:
        """E.g. "a red circle, a blue square and a white cross"."""
        names = [f"a {o.color} {o.shape}" for o in self.objects]
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))

    @property
    def sound(self) -> np.ndarray:
        """float32 (S,), 16-bit steps in [-1, 1) at `RATE_HZ`: a syllable of 0.2 s per object."""
        rng = np.random.default_rng([*self.seed, 2])
        time = np.arange(round(RATE_HZ * SYLLABLE_SECONDS)) / RATE_HZ
        envelope = np.minimum(time / 0.02, 1.0) * np.exp(-6.0 * time)
        parts = []
        for o in self.objects:
            pitch = 200.0 * 2 ** (list(COLORS).index(o.color) / 5) * rng.uniform(0.99, 1.01)
            glide = 1.0 - 0.1 * time
            weights = np.arange(1, 6) ** -(0.5 + SHAPES.index(o.shape))
            tones = [
                w * np.sin(2 * np.pi * pitch * k * time * glide) for k, w in enumerate(weights, 1)
            ]
            parts.append(0.4 * envelope * np.sum(tones, axis=0) / weights.sum())
        wave = np.concatenate(parts) + rng.normal(0, 0.005, len(parts) * len(time))
        return (np.clip(np.round(wave * 32768), -32768, 32767) / 32768).astype(np.float32)

    def clip(self, frames: int = 8, speed: float = 1.5) -> np.ndarray:
        """uint8 (frames, size, size, 3): each object moves `speed` pixels a frame."""
        rng = np.random.default_rng([*self.seed, 3])
        return np.stack([self._paint(speed * t, rng) for t in range(frames)])

    def questions(self) -> Iterator[tuple[str, str]]:
        """Yields every (question, answer) that the scene settles."""
        shapes, colors = [o.shape for o in self.objects], [o.color for o in self.objects]
        held = list(zip(colors, shapes, strict=True))
        yield "how many shapes are there?", NUMBERS[len(self.objects) - 1]
        for o in self.objects:
            if shapes.count(o.shape) == 1:
                yield f"what color is the {o.shape}?", o.color
            if colors.count(o.color) == 1:
                yield f"what shape is the {o.color} object?", o.shape
        for color in COLORS:
            for shape in SHAPES:
                answer = "yes" if (color, shape) in held else "no"
                yield f"is there a {color} {shape}?", answer
        for a, b in zip(self.objects, self.objects[1:], strict=False):
            if all(held.count((o.color, o.shape)) == 1 for o in (a, b)):
                yield f"is the {a.color} {a.shape} left of the {b.color} {b.shape}?", "yes"
                yield f"is the {b.color} {b.shape} left of the {a.color} {a.shape}?", "no"

    def _paint(self, shift: float, rng: np.random.Generator) -> np.ndarray:
        picture = np.full((self.size, self.size, 3), 30.0)
        for o in self.objects:
            picture[o.mask(self.size, shift)] = COLORS[o.color]
        picture += rng.normal(0, 6.0, picture.shape)
        return np.clip(picture, 0, 255).astype(np.uint8)


def generate(count: int, *, seed: int = 0, size: int = 64, max_objects: int = 3) -> list[Scene]:
    """Returns `count` scenes.

    Args:
        count: how many.
        seed: scenes of another seed are other scenes; take different seeds for the splits.
        size: side of the pictures in pixels, at least 32.
        max_objects: 1 to 3 objects a scene.
    """
    checks.whole("count", count)
    checks.whole("size", size, 32)
    if max_objects not in (1, 2, 3):
        raise ValueError(f"`max_objects` must be 1, 2 or 3. Received: {max_objects!r}.")
    return [_scene(seed, number, size, max_objects) for number in range(count)]


def questions(
    count: int, *, seed: int = 0, size: int = 64, max_objects: int = 3, per_scene: int = 4
) -> dict[str, list]:
    """Returns columns for `mk.data.table`: image, question, answer, scene (its number).

    Per scene up to `per_scene` questions are drawn, each of another kind (count, colour, shape,
    existence and order, both true and false), as far as the scene settles any of that kind; so
    existence and order are true about as often as not.
    """
    rows: dict[str, list] = {"image": [], "question": [], "answer": [], "scene": []}
    for number, scene in enumerate(generate(count, seed=seed, size=size, max_objects=max_objects)):
        rng = np.random.default_rng([seed, number, 4])
        kinds: dict[tuple, list] = {}
        for question, answer in scene.questions():
            kinds.setdefault(
                (*question.split()[:2], answer in ("yes", "no") and answer), []
            ).append((question, answer))
        order = rng.permutation(len(kinds))[:per_scene]
        image = scene.image
        for kind in order:
            options = list(kinds.values())[kind]
            question, answer = options[rng.integers(len(options))]
            for name, value in zip(rows, (image, question, answer, number), strict=True):
                rows[name].append(value)
    return rows


def _scene(seed: int, number: int, size: int, max_objects: int) -> Scene:
    rng = np.random.default_rng([seed, number])
    count, unit = int(rng.integers(1, max_objects + 1)), size / 64
    placed: list[Object] = []
    while len(placed) < count:
        radius = rng.uniform(7, 11) * unit
        y, x = rng.uniform(radius, size - radius, 2)
        if any(np.hypot(y - o.y, x - o.x) < 1.2 * (radius + o.radius) for o in placed):
            continue
        names = (rng.choice(SHAPES), rng.choice(list(COLORS)), rng.choice(list(DIRECTIONS)))
        shape, color, direction = map(str, names)
        placed.append(Object(shape, color, float(y), float(x), float(radius), direction))
    return Scene(tuple(sorted(placed, key=lambda o: o.x)), size, (seed, number))
