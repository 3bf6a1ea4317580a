"""Clips and several items through the exported signature, in a session without Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.export.inputs import checked
from tests.data import clips, files
from tests.session_loader import ask

SIZE = (8, 12)
SPECS = {
    "clip": mk.Video(frames=4, size=SIZE, fps=25),
    "views": mk.Several(mk.Image(size=8), 2),
    "lines": mk.Several(mk.Text(length=3), 3),
    "points": mk.Several(mk.Vector(2), 2),
}
ENCODERS = {
    "clip": {"name": "r2plus1d", "filters": (8, 8), "depths": (1, 1)},
    "views": {"name": "shared", "encoder": {"name": "cnn", "filters": (8, 8)}},
}


def rows(rng):
    still = files.encode(rng.integers(0, 256, (8, 8, 3)).astype("uint8"))
    other = files.encode(rng.integers(0, 256, (5, 9, 3)).astype("uint8"), "JPEG")
    moving = [rng.integers(0, 256, (n, *SIZE, 3)).astype("uint8") for n in (3, 6)]
    boxed = clips.container(moving[1], [0, 50_000, 60_000, 150_000, 160_000, 170_000], 300_000)
    return {
        "clip": [clips.gif(moving[0]), boxed, None, still, clips.gif(moving[1], 70), boxed],
        "views": [[still, other], [other], None, [still], [None, still], []],
        "lines": [["a b", "c"], None, ["d"], ["a", "b", "c d e f"], [], ["b"]],
        "points": [[[1.0, 2]], [[0.0, 1], [4, 5]], None, [], [[7.0, 8]], [[9.0, 1]]],
        "kind": list("ababab"),
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    data = mk.data.table(rows(np.random.default_rng(0)), SPECS, "kind")
    keras.utils.set_random_seed(0)
    heads = {"kind": mk.heads.Classifier(data.classes)}
    model = mk.assemble(data.modalities, ENCODERS, heads=heads, hidden_dim=8)
    path = tmp_path_factory.mktemp("model") / "1"
    mk.export.saved_model(model, data.modalities, path, signatures=("serving_default",))
    return model, data, path


def test_of_several_decoded_items_only_the_bad_one_is_absent(exported):
    data = exported[1]
    x = {name: value.numpy() for name, value in next(iter(data.batches("train", 6)))[0].items()}
    expected = {name: x[name].copy() for name in x}
    x["points"][1, 0] = [np.nan, 1.0]
    x["lines"][3, 2, 0] = -1
    x["lines"][4, 0, 0] = 10**6  # behind the mask
    expected["points_mask"][1, 0] = expected["lines_mask"][3, 2] = False
    made, bad = checked(data.modalities, {name: tf.constant(value) for name, value in x.items()})
    for name in SPECS:
        mask = expected[f"{name}_mask"]
        np.testing.assert_array_equal(made[f"{name}_mask"], mask)
        there = made[name].numpy()[mask]
        np.testing.assert_array_equal(there, expected[name][mask])
        assert np.isfinite(made[name].numpy()).all()
    assert np.argwhere(bad).tolist() == [[1, 3], [3, 2]]


def test_the_tf_data_path_gives_what_is_served(exported):
    model, data, path = exported
    raw = data.raw("train", range(6))
    assert {name: value.shape for name, value in raw.items()} == {
        "clip": (6,),
        "views": (6, 2),
        "lines": (6, 3),
        "points": (6, 2, 2),
    }
    x, _ = next(iter(data.batches("train", 6)))
    np.testing.assert_allclose(ask(path, raw)["kind"], model.predict_on_batch(x)["kind"], atol=5e-6)


def test_parity_in_a_process_of_its_own(exported):
    model, data, path = exported
    difference = mk.export.check_parity(model, data.modalities, path, data.raw("train", range(6)))
    assert difference["kind"] <= 5e-6


@pytest.mark.parametrize("left_out", ["clip", "points", None])
def test_what_a_request_leaves_out_is_absent(exported, left_out):
    model, data, path = exported
    raw = data.raw("train", [1])
    x, _ = next(iter(data.take("train", np.array([1])).batches("train", 1)))
    for name in SPECS:
        if left_out in (name, None) and (left_out or name != "lines"):
            raw.pop(name)
            x[f"{name}_mask"] = tf.zeros_like(x[f"{name}_mask"])
    np.testing.assert_allclose(ask(path, raw)["kind"], model.predict_on_batch(x)["kind"], atol=5e-6)


def test_broken_clips_and_items_are_absent_and_told(exported):
    _, data, path = exported
    raw = data.raw("train", range(6))
    broken = {name: values.copy() for name, values in raw.items()}
    broken["clip"][0] = b"\x00\x00\x01\xba of an MPEG"
    broken["clip"][1] = raw["clip"][1][:-9]
    broken["views"][0, 1] = b"no picture"
    broken["lines"][2, 0] = b"caf\xe9"
    broken["points"][4, 0, 1] = np.nan
    absent = {name: values.copy() for name, values in raw.items()}
    absent["clip"][:2] = absent["views"][0, 1] = absent["lines"][2, 0] = b""
    absent["points"][4, 0] = np.nan
    told, plain = ask(path, broken), ask(path, absent)
    bad = np.zeros((6, 4), bool)
    bad[:2, 0] = bad[0, 1] = bad[2, 2] = bad[4, 3] = True
    np.testing.assert_array_equal(told["bad_input"], bad)
    np.testing.assert_array_equal(told["kind"], plain["kind"])
    assert not plain["bad_input"].any()


def test_specs_and_vocabulary_beside_the_model(exported):
    _, data, path = exported
    about = (path / "assets.extra" / "mmkeras.json").read_text()
    assert mk.core.from_json(about) == data.modalities
    words = (path / "assets" / "lines_vocabulary.txt").read_text().splitlines()
    assert tuple(words) == data.modalities["lines"].modality.vocabulary


def test_samples_in_tensorboard(exported, tmp_path):
    """Frames and items side by side, and what there is of them in the table."""
    model, data, _ = exported
    samples = mk.training.Samples(str(tmp_path), data, count=3)
    samples.set_model(model)
    samples.on_epoch_end(0)
    samples.on_train_end()
    (events,) = tmp_path.glob("events*")
    shown = {}
    for event in tf.compat.v1.train.summary_iterator(str(events)):
        for value in event.summary.value:
            shown[value.tag] = tf.make_ndarray(value.tensor)
    assert {"samples/clip", "samples/views", "samples/table"} <= set(shown)
    strip = tf.io.decode_png(shown["samples/clip"][2]).numpy()
    assert strip.shape == (8, 4 * 12, 3)
    x, _ = next(iter(data.take("train", np.array([0])).batches("train", 1)))
    np.testing.assert_array_equal(strip, np.concatenate(list(x["clip"][0].numpy()), axis=1))
    assert tf.io.decode_png(shown["samples/views"][2]).shape == (8, 16, 3)
    table = shown["samples/table"].item().decode()
    assert "3 frames" in table and "2 of 2" in table and "(absent)" in table
