"""An export behind TensorFlow's C API, without Python, and in `saved_model_cli run`."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.data import scenes
from tests.export import c_api

SPECS = {
    "image": mk.Image(size=16),
    "question": mk.Text(length=9, tokenizer="wordpiece", vocabulary_size=60),
    "sound": mk.Audio(rate_hz=8000, seconds=0.3, num_bands=13, features="mfcc"),
    "numbers": mk.Vector(size=2),
}
needs_compiler = pytest.mark.skipif(not c_api.COMPILER, reason="there is no C compiler")


def export(specs, folder):
    columns = scenes.questions(12, seed=1, size=40)
    made = scenes.generate(12, seed=1, size=40)
    columns["sound"] = [made[i].sound for i in columns["scene"]]
    columns["numbers"] = [[float(i), i / 7] for i in columns["scene"]]
    data = mk.data.table(columns, specs, "answer")
    keras.utils.set_random_seed(0)
    encoders = {n: {"name": "cnn", "filters": (8,)} for n in ("image", "sound") if n in specs}
    heads = {"answer": mk.heads.Classifier(data.classes)}
    model = mk.assemble(data.modalities, encoders, "sum", heads, hidden_dim=8)
    mk.export.saved_model(model, data.modalities, folder / "1")
    return model, data, folder / "1"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(SPECS, tmp_path_factory.mktemp("exported"))


def expected(model, data, rows, left_out=()):
    """What Keras answers on the path of training."""
    x, _ = next(iter(data.take("train", np.arange(rows)).batches("train", rows)))
    for name in left_out:
        x[f"{name}_mask"] = tf.zeros_like(x[f"{name}_mask"])
    return model.predict_on_batch(x)["answer"]


@needs_compiler
def test_a_program_in_c_answers_as_keras(exported, tmp_path):
    """Defaults are read from the SignatureDef, as TF Serving does for what a request leaves out."""
    model, data, path = exported
    program = c_api.build(tmp_path)
    libraries = c_api.text_libraries()
    for rows, left_out in ((5, ()), (1, ("image",)), (2, ("numbers", "question"))):
        raw = {k: v for k, v in data.raw("train", range(rows)).items() if k not in left_out}
        answered = c_api.ask(program, path, raw, tmp_path, libraries=libraries)
        logits = expected(model, data, rows, left_out)
        assert answered["answer"].shape == (rows, len(data.classes))
        np.testing.assert_allclose(answered["answer"], logits, atol=5e-6)
        assert list(answered["answer_label"]) == [data.classes[i] for i in logits.argmax(axis=1)]
    x, _ = next(iter(data.batches("train", 4)))
    raw = {k: v for k, v in x.items() if not k.startswith("image")}
    answered = c_api.ask(program, path, raw, tmp_path, signature="decoded", libraries=libraries)
    rows = len(x["image"])
    np.testing.assert_allclose(
        answered["answer"], expected(model, data, rows, ("image",)), atol=5e-6
    )
    with pytest.raises(RuntimeError, match="Op type not registered"):
        c_api.ask(program, path, raw, tmp_path)
    with pytest.raises(RuntimeError, match="nothing: is not a signature of the model"):
        c_api.ask(program, path, raw, tmp_path, signature="nothing", libraries=libraries)


def test_saved_model_cli_runs_it(tmp_path):
    """The command line needs every input; "" and NaN are what is absent, as everywhere."""
    specs = {**SPECS, "question": mk.Text(length=9)}
    model, data, path = export({k: specs[k] for k in ("image", "question", "numbers")}, tmp_path)
    raw = data.raw("train", range(3))
    raw["numbers"] = np.full((3, 2), np.nan, "float32")
    np.savez(tmp_path / "raw.npz", **{k: np.asarray(v) for k, v in raw.items()})
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
    command += ["--dir", str(path), "--tag_set", "serve", "--signature_def", "serving_default"]
    command += ["--inputs", ";".join(f"{k}={tmp_path / 'raw.npz'}[{k}]" for k in raw)]
    done = subprocess.run(
        [*command, "--outdir", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answered = np.load(tmp_path / "answer.npy")
    np.testing.assert_allclose(answered, expected(model, data, 3, ("numbers",)), atol=5e-6)
