"""The pipeline doctor: stages, bottleneck, advice, the model left as it was, TensorBoard."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data.profile import InputProfile, _advice, _bottleneck
from tests.core.errors import says
from tests.data import files

SECONDS = 0.03


@pytest.fixture
def data(rng, tmp_path):
    paths = []
    for number in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3)).astype("uint8")
        (tmp_path / f"{number}.jpg").write_bytes(files.encode(pixels, "JPEG"))
        paths.append(str(tmp_path / f"{number}.jpg"))
    rows = {"picture": paths, "words": ["a b", "c"] * 3, "label": ["x", "y"] * 3}
    specs = {"picture": mk.Image(size=8, augment={"flip": {}}), "words": mk.Text(length=3)}
    return mk.data.table(rows, specs, "label")


def model_of(data):
    encoders = {"picture": {"name": "cnn", "filters": (4,)}}
    heads = {"label": mk.heads.Classifier(data.classes)}
    return mk.assemble(data.modalities, encoders, "concatenation", heads, hidden_dim=4)


def test_stages_and_the_model_left_as_it_was(data, tmp_path):
    model = model_of(data)
    model.compile("adamw", jit=False)
    model.fit(data.train(3), epochs=1, verbose=0)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables + model.optimizer.variables]
    made = mk.data.profile(data, batch_size=3, model=model, seconds=SECONDS, log_dir=tmp_path)
    after = [keras.ops.convert_to_numpy(v) for v in model.variables + model.optimizer.variables]
    files.same(after, before)
    stages = ["read picture", "decode picture", "augment picture", "decode words"]
    assert list(made.rates) == [*stages, "pipeline", "step"]
    assert made.batch_size == 3 and min(made.rates.values()) > 0
    assert made.bottleneck in made.rates and made.advice
    assert str(made).count("<- bottleneck") == 1
    assert all(stage in str(made) for stage in made.rates)
    (event,) = (tmp_path / "input").iterdir()
    tags = {
        value.tag: value
        for record in tf.compat.v1.train.summary_iterator(str(event))
        for value in record.summary.value
    }
    assert {"input/profile", "input/pipeline (samples per s)"} <= set(tags)
    assert b"bottleneck" in tags["input/profile"].tensor.string_val[0]
    model.fit(data.train(3), epochs=1, verbose=0)  # still trains


def test_any_dataset_and_any_keras_model(data):
    def endless():
        while True:
            yield np.ones((4, 2), "float32"), np.ones((4, 1), "float32")

    signature = (tf.TensorSpec((4, 2)), tf.TensorSpec((4, 1)))
    dataset = tf.data.Dataset.from_generator(endless, output_signature=signature)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    made = mk.data.profile(dataset, model=model, seconds=SECONDS)
    assert list(made.rates) == ["pipeline", "step"] and made.batch_size is None
    assert min(made.rates.values()) > 0
    assert mk.data.profile(dataset.take(2), seconds=SECONDS).bottleneck == "pipeline"


@pytest.mark.parametrize(
    ("rates", "bottleneck", "words"),
    [
        ({"decode picture": 9e2, "decode words": 9e4, "pipeline": 8e2, "step": 5e3}, 0, "cache"),
        ({"decode picture": 9e3, "decode words": 9e2, "pipeline": 8e2}, 1, "Decode 'words' once"),
        ({"decode picture": 9e3, "augment picture": 9e2, "pipeline": 8e2}, 1, "Augmentation"),
        ({"read picture": 9e2, "decode picture": 9e3, "pipeline": 8e2}, 0, "archive="),
        ({"decode picture": 9e3, "pipeline": 8e2, "step": 1e3}, 1, "larger batch"),
        ({"decode picture": 9e2, "pipeline": 8e2, "step": 3e2}, 2, "keeps up with the step: 2.7"),
    ],
)
def test_the_bottleneck_and_what_to_change(data, rates, bottleneck, words):
    found = _bottleneck(rates)
    assert found == list(rates)[bottleneck]
    advice = _advice(rates, found, data.modalities, data)
    assert words in " ".join(advice)
    shown = str(InputProfile(3, rates, found, advice))
    assert f"{found}" in [line for line in shown.split("\n") if "<-" in line][0]


def test_area_is_advised_and_a_cached_modality_is_not_cached_again(data):
    rates = {"decode picture": 9e2, "pipeline": 8e2}
    spec = data.modalities["picture"].replace(resize="bilinear")
    advice = _advice(rates, "decode picture", {"picture": spec}, data)
    assert "resize='area'" in advice[0]
    advice = _advice(rates, "decode picture", data.modalities, data.cache())
    assert "cache" not in " ".join(advice) and "larger batch" in advice[0]


def test_errors_teach(data):
    with says(TypeError, "mk.data.table(...)", "Received: list"):
        mk.data.profile([1, 2])
    with says(ValueError, "compiled", "model.compile()"):
        mk.data.profile(data, model=model_of(data))
