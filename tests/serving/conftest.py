"""A small published model, and everything that serves it here."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

import mmkeras as mk
from mmkeras.data import scenes
from tests.serving import double

SPECS = {
    "image": mk.Image(size=16),
    "question": mk.Text(length=8),
    "sound": mk.Audio(rate_hz=8000, seconds=0.1, num_bands=8, features="mfcc", num_coefficients=4),
    "numbers": mk.Vector(size=2),
    "motion": mk.Series(steps=6, channels=2),
    "facts": mk.Table(numeric=("height",), categorical=("colour",)),
    "views": mk.Several(mk.Image(size=8), 2),
}
SERVER = shutil.which("tensorflow_model_server")
KINDS = ["rest", "grpc"] + (["server-rest", "server-grpc"] if SERVER else [])


def rows():
    rng = np.random.default_rng(0)
    columns = scenes.questions(9, seed=1, size=32)
    made = scenes.generate(9, seed=1, size=32)
    count = len(columns["answer"])
    columns["sound"] = [made[i].sound for i in columns["scene"]]
    columns["numbers"] = rng.normal(size=(count, 2)).tolist()
    columns["motion"] = list(rng.normal(size=(count, 6, 2)).astype("float32"))
    columns["height"] = [str(i) for i in range(count)]
    columns["colour"] = [("red", "blue")[i % 2] for i in range(count)]
    columns["views"] = [[made[i].image] * (1 + i % 2) for i in columns["scene"]]
    return columns


@pytest.fixture(scope="package")
def published(tmp_path_factory):
    """Folder of a server with the model "vqa", the version, the data."""
    data = mk.data.table(rows(), SPECS, "answer")
    keras.utils.set_random_seed(0)
    small = {"name": "cnn", "filters": (4, 4)}
    model = mk.assemble(
        data.modalities,
        {"image": small, "sound": small, "views": {"name": "shared", "encoder": small}},
        "concatenation",
        {"answer": mk.heads.Classifier(data.classes)},
        hidden_dim=8,
    )
    folder = tmp_path_factory.mktemp("published")
    exported = mk.export.saved_model(model, data.modalities, folder / "exported")
    serving = folder / "serving"
    version = mk.export.publish(
        exported,
        serving / "vqa",
        data.raw("train", range(3)),
        batch_sizes=(1, 4),
        root=str(serving),
    )
    return serving, version, data


@pytest.fixture(scope="package")
def model(published):
    return double.Model(published[0] / "vqa")


@pytest.fixture
def rest(model):
    server = double.Rest(model)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=KINDS)
def url(request, published, model):
    """Address of a server; of the real one too where it is installed."""
    if request.param == "rest":
        yield request.getfixturevalue("rest").url
    elif request.param == "grpc":
        server = double.Rpc(model)
        yield server.url
        server.server.stop(None)
    else:
        ports = [_free_port() for _ in range(2)]
        process = _start(published[0], *ports)
        try:
            scheme = request.param.removeprefix("server-").replace("rest", "http")
            address = f"{scheme}://127.0.0.1:{ports[scheme == 'http']}"
            mk.serving.Client(address, "vqa").wait(60)
            yield address
        finally:
            process.kill()
            process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(folder: Path, port: int, rest_port: int):
    flags = {
        "port": port,
        "rest_api_port": rest_port,
        "model_config_file": folder / "models.config",
        "monitoring_config_file": folder / "monitoring.config",
        "enable_batching": "true",
        "batching_parameters_file": folder / "batching_parameters.txt",
    }
    command = [SERVER, *(f"--{name}={value}" for name, value in flags.items())]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=dict(os.environ))
