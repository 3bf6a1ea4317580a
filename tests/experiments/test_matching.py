"""Retrieval and zero-shot on emoji, scenes and groceries: what is read, and one quick run each."""

import json

import keras
import numpy as np

import mmkeras as mk
from experiments import emoji, grocery_clip, scenes
from tests.experiments.test_real_data import run


def check(folder, name, rows):
    result = json.loads((folder / "result.json").read_text())
    assert result["name"] == name and {row["row"] for row in result["rows"]} == {*rows, "chance"}
    assert all(0 <= row["mean"] <= 1 for row in result["rows"])
    parity = json.loads((folder / "parity.json").read_text())
    assert parity["largest_absolute_difference"]["match"] < 1e-4
    return {(row["row"], row["metric"], row["split"]): row["mean"] for row in result["rows"]}


def test_emoji_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "emoji", "--out", tmp_path, "--quick", "--seeds", "0")
    run("emoji", *arguments, "--rows", "siglip")
    found = check(tmp_path, "emoji", ["siglip"])
    for metric in ("text to image recall_at_1", "image to text mrr", "group by words"):
        assert ("siglip", metric, "val") in found


def test_together_has_the_mean_of_the_members_cosines(rng, tmp_path):
    specs = {name: mk.Vector(size=3, normalize=False) for name in ("image", "text")}
    members = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        members.append(mk.models.clip(specs, dim=4 + seed))
    emoji.together(members, specs).save(tmp_path / "last.keras")
    joined = keras.models.load_model(tmp_path / "last.keras")
    x = {name: rng.standard_normal((5, 3)).astype("float32") for name in specs}
    x |= {"image_mask": np.arange(5) != 1, "text_mask": np.arange(5) != 2}

    def cosines(model):
        found = mk.evaluation.embeddings(model, [x])
        return found["image"] @ found["text"].T

    mean = np.mean([cosines(member) for member in members], axis=0)
    np.testing.assert_allclose(cosines(joined), mean, atol=1e-6)
    assert not mean[1].any() and not mean[:, 2].any() and np.abs(mean[0, 0]) > 1e-3


def test_emoji_are_read_as_published(data_dir):
    splits = emoji.load(data_dir / "emoji", quick=False)
    assert {name: len(part["text"]) for name, part in splits.items()} == {
        "train": 1123,
        "val": 184,
    }
    assert set(splits["train"]["group"]) == set(emoji.GROUPS)
    assert {picture.shape for picture in splits["val"]["image"]} == {(72, 72, 3)}
    corners = [picture[0, 0] for picture in splits["train"]["image"]]
    assert np.median(corners) == 255  # transparent is white


def test_word_vectors_are_those_of_the_texts_singular_values():
    texts = ["red cat", "red dog", "blue cat", "blue dog bird"]
    specs = {"text": mk.Text(length=4)}
    data = mk.data.table({"text": texts}, specs)
    vectors = emoji.word_vectors(data, 6)
    words = data.modalities["text"].vocabulary
    assert vectors.shape == (len(words), 6) and not vectors[:2].any()
    count = np.array([[w in t.split() for w in words] for t in texts], float)
    idf = np.log(4 / np.maximum(count.sum(axis=0), 1))
    # All singular vectors are there, so that the texts' products are those of their rows.
    rows, made = count * idf, count @ vectors
    products = made @ made.T
    np.testing.assert_allclose(
        products / products[0, 0], rows @ rows.T / (rows[0] @ rows[0]), atol=1e-5
    )


def test_scenes_quick(tmp_path):
    run("scenes", "--out", tmp_path, "--quick", "--seeds", "0", "--rows", "info_nce")
    found = check(tmp_path, "scenes", ["info_nce"])
    for split in ("seen", "unseen"):
        assert ("info_nce", "pair accuracy", split) in found
        assert ("info_nce", "image to text recall_at_1", split) in found


def test_held_out_pairs_are_never_seen_together():
    assert len(scenes.HELD_OUT) == 6
    assert {color for color, _ in scenes.HELD_OUT} == set(scenes.scenes.COLORS)
    assert {shape for _, shape in scenes.HELD_OUT} == set(scenes.scenes.SHAPES)
    parts = scenes.load(quick=True)
    held = [f"{color} {shape}" for color, shape in scenes.HELD_OUT]
    for part, columns in parts.items():
        assert len(columns["text"]) == scenes.COUNTS[part] // 16
        shown = [any(pair in caption for pair in held) for caption in columns["text"]]
        assert all(shown) if part.startswith("unseen") else not any(shown)


def test_grocery_clip_quick(data_dir, tmp_path):
    arguments = ("--data", data_dir / "grocery", "--out", tmp_path, "--quick", "--seeds", "0")
    run("grocery_clip", *arguments, "--rows", "info_nce")
    found = check(tmp_path, "grocery_clip", ["info_nce"])
    for split in ("seen", "unseen"):
        assert ("info_nce", "photo to icon recall_at_1", split) in found


def test_left_out_classes_are_in_no_training_row(data_dir):
    classes, splits = grocery_clip.load(data_dir / "grocery", quick=False)
    unseen = grocery_clip.left_out(splits)
    assert len(classes) == 81 and len(unseen) == 10
    assert set(unseen) <= set(splits["val"]["match"]) & set(splits["train"]["match"])
    data = grocery_clip.table(classes, splits, seed=0)
    for split in data.splits.values():
        assert not set(split.truth["match"]) & set(unseen)
    texts = {text.decode() for text in data.splits["train"].columns["text"].items}
    assert texts == {c["text"] for i, c in enumerate(classes) if i not in unseen}
    photos = len([n for n in splits["train"]["match"] if n not in unseen])
    assert len(data.splits["train"]) == photos + grocery_clip.ICONS * (81 - len(unseen))
