"""What tf.data gives a model is, bit by bit, what an export gives it: every kind, real files."""

import numpy as np
import pytest

import mmkeras as mk
from experiments import skew
from tests.data import clips, files


def test_every_kind(tmp_path, rng):
    def picture(format, size=(11, 9)):
        return files.encode(rng.integers(0, 256, (*size, 3)).astype("uint8"), format)

    (tmp_path / "a.jpg").write_bytes(picture("JPEG", (40, 30)))
    (tmp_path / "b.png").write_bytes(picture("PNG"))
    moving = rng.integers(0, 256, (5, 8, 8, 3)).astype("uint8")
    waves = [rng.uniform(-1, 1, n).astype("float32") for n in (700, 90)]
    rows = {
        "image": ["a.jpg", "b.png", None],
        "grey": ["b.png", "a.jpg", "b.png"],
        "words": ["Äpfel, and 3 pears", None, "one two three four"],
        "letters": ["été", "a\tb", None],
        "octets": ["é", "abc", None],
        "sound": [np.round(w * 32767) / 32768 for w in waves] + [None],
        "clip": [clips.gif(moving), picture("PNG"), None],
        "views": [["a.jpg", "b.png"], ["b.png"], None],
        "numbers": [[0.1, 1e6], [3.3, 7.0], None],
        "steps": [rng.standard_normal((4, 2)), None, rng.standard_normal((9, 2))],
        "motion": [None, rng.standard_normal((30, 2)), rng.standard_normal((7, 2))],
        "height": [1.1, 1e7, None],
        "colour": ["red", None, "grün"],
    }
    specs = {
        "image": mk.Image(size=16, resize="bilinear", fit="crop"),
        "grey": mk.Image(size=(8, 12), channels=1, fit="pad"),
        "words": mk.Text(length=3),
        "letters": mk.Text(length=3, tokenizer="characters"),
        "octets": mk.Text(length=5, tokenizer="bytes"),
        "sound": mk.Audio(rate_hz=8000, seconds=0.05),
        "clip": mk.Video(frames=3, size=8),
        "views": mk.Several(mk.Image(size=8), 2),
        "numbers": mk.Vector(size=2),
        "steps": mk.Vector(size=2, steps=5),
        "motion": mk.Series(steps=6, channels=2, rate_hz=10, source_rate_hz=25),
        "facts": mk.Table(numeric=("height",), categorical=("colour",)),
    }
    data = mk.data.table(rows, specs, root=tmp_path)
    assert {m.kind for m in specs.values()} == set(mk.core.modalities.KINDS)
    assert skew.compared(data) == {"rows": 3, "differ": {}, "bad": 0}


def test_a_difference_is_found(rng):
    data = mk.data.table({"v": [[1.0], [2.0], [4.0]]}, {"v": mk.Vector(size=1)})

    class Other:
        modalities = {"v": data.modalities["v"].replace(mean=(0.0,))}
        batches, raw = data.batches, data.raw

    assert skew.compared(Other) == {"rows": 3, "differ": {"v": 3}, "bad": 0}


# Every row of esc10; of the others, whose bytes a request holds once per row, some.
@pytest.mark.parametrize(
    ("name", "step"), [("easy_vqa", 4), ("esc10", 1), ("avmnist", 10), ("vqa_rad", 4)]
)
def test_real_files(data_dir, tmp_path, name, step):
    """All rows of all sets: `python -m experiments.skew`."""
    data = skew.SETS[name](data_dir / name, tmp_path)
    data = data.take("train", np.arange(0, len(data.splits["train"]), step))
    rows = len(data.splits["train"])
    assert skew.compared(data) == {"rows": rows, "differ": {}, "bad": 0}
