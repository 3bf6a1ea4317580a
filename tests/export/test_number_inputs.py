"""Tables, series and sequences of vectors as raw, optional inputs of an export."""

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from tests.session_loader import ask

SPECS = {
    "facts": mk.Table(numeric=("height", "weight"), categorical=("colour",)),
    "motion": mk.Series(steps=6, channels=2, rate_hz=10, source_rate_hz=25),
    "frames": mk.Vector(size=3, steps=4),
}
SMALL = {
    "facts": {"name": "ft_transformer", "hidden_dim": 8, "intermediate_dim": 8},
    "motion": {"name": "tcn", "filters": (8,)},
    "frames": {"name": "lstm", "hidden_dim": 4},
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = {
        "height": [1.5, None, 2.5, 4, 1, 2],
        "weight": [10, 20, None, None, 3, 0.1],
        "colour": ["red", "blue", None, None, "été", "red"],
        "motion": [rng.standard_normal((n, 2)) if n else None for n in (20, 9, 0, 3, 14, 5)],
        "frames": [rng.standard_normal((n, 3)) if n else None for n in (4, 2, 3, 0, 7, 1)],
        "label": list("abcabc"),
    }
    data = mk.data.table(rows, SPECS, "label")
    heads = {"label": mk.heads.Classifier(data.classes)}
    model = mk.assemble(data.modalities, SMALL, heads=heads, hidden_dim=8)
    path = tmp_path_factory.mktemp("numbers") / "1"
    mk.export.saved_model(model, data.modalities, path, signatures=("serving_default",))
    return model, data, path


def test_parity_with_keras_in_a_process_without_keras(exported):
    model, data, path = exported
    raw = data.raw("train", range(6))
    assert raw["facts"].shape == (6, 3) and raw["motion"].shape[::2] == (6, 2)
    difference = mk.export.check_parity(model, data.modalities, path, raw)
    assert difference["label"] <= 5e-6


def test_the_tf_data_path_gives_what_is_served(exported):
    model, data, path = exported
    x, _ = next(iter(data.batches("train", 6)))
    answered = ask(path, data.raw("train", range(6)))["label"]
    np.testing.assert_allclose(answered, model.predict_on_batch(x)["label"], atol=5e-6)


@pytest.mark.parametrize("left_out", [("facts",), ("motion", "frames")])
def test_an_input_left_out_is_an_absent_modality(exported, left_out):
    model, data, path = exported
    raw = data.raw("train", range(6))
    answered = ask(path, {k: v for k, v in raw.items() if k not in left_out})
    x, _ = next(iter(data.batches("train", 6)))
    for name in left_out:
        x[f"{name}_mask"] = tf.zeros_like(x[f"{name}_mask"])
    np.testing.assert_allclose(answered["label"], model.predict_on_batch(x)["label"], atol=5e-6)


def test_any_number_of_steps_is_served_and_padding_is_nothing(exported):
    _, data, path = exported
    raw = data.raw("train", [1])
    short = {**raw, "motion": raw["motion"][:, :9], "frames": raw["frames"][:, :2]}
    more = ((0, 0), (0, 30), (0, 0))
    long = {
        **raw,
        "motion": np.pad(short["motion"], more, constant_values=np.nan),
        "frames": np.pad(short["frames"], more, constant_values=np.nan),
    }
    np.testing.assert_array_equal(ask(path, short)["label"], ask(path, long)["label"])


def test_unknown_categories(exported):
    _, _, path = exported
    cells = [["1", "2", word] for word in ("green", "grün", "")]
    one, other, missing = ask(path, {"facts": cells})["label"]
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(missing, one)


def test_a_row_that_cannot_be_read_is_absent_and_told(exported):
    _, data, path = exported
    raw = data.raw("train", range(6))
    broken = {name: values.copy() for name, values in raw.items()}
    broken["facts"][0, 0] = b"tall"
    broken["facts"][5, 1] = b"1e39"
    broken["motion"][1, 2, 1] = np.inf
    broken["frames"][4, 1, 0] = -np.inf
    absent = {name: values.copy() for name, values in raw.items()}
    for name, row in (("facts", 0), ("facts", 5), ("motion", 1), ("frames", 4)):
        absent[name][row] = b"" if name == "facts" else np.nan
    told, plain = ask(path, broken), ask(path, absent)
    bad = np.zeros((6, 3), bool)
    bad[[0, 5], 0] = bad[1, 1] = bad[4, 2] = True
    np.testing.assert_array_equal(told["bad_input"], bad)
    np.testing.assert_array_equal(told["label"], plain["label"])
    assert not plain["bad_input"].any()
