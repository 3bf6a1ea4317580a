"""Version folders, warm-up requests and the server's files, on a SavedModel of three lines."""

import multiprocessing
import os
import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import mmkeras as mk
from mmkeras.core import files
from mmkeras.export.server_files import server_files
from mmkeras.export.warmup import requests

module = sys.modules["mmkeras.export.publish"]
RAW = {"text": [b"a\x00", b"bcd", b"\xff"], "numbers": np.float32([[1, 2], [3, 4], [5, 6]])}

EMPTY = [tf.constant(value) for value in ([""], [[np.nan, np.nan]], [[0.5]])]


def export(path, rows=True):
    archive = keras.export.ExportArchive()

    def serve(text=EMPTY[0], numbers=EMPTY[1], more=EMPTY[2]):
        total = tf.reduce_sum(numbers, axis=1) + tf.reduce_sum(more, axis=1)
        length = tf.strings.length(text)
        return {"sum": total if rows else tf.reduce_sum(total), "length": length}

    specs = [
        tf.TensorSpec((None,), tf.string, name="text"),
        tf.TensorSpec((None, 2), tf.float32, name="numbers"),
        tf.TensorSpec((None, None), tf.float32, name="more"),
    ]
    archive.add_endpoint("serving_default", serve, specs)
    archive.add_endpoint("twin", serve, specs)
    archive.write_out(str(path), verbose=False)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(tmp_path_factory.mktemp("exported") / "model")


def test_layout(exported, tmp_path):
    before = sorted(p.relative_to(exported) for p in exported.rglob("*"))
    serving = tmp_path / "serving"
    first = mk.export.publish(exported, serving / "vqa", RAW, batch_sizes=(4, 1), root="/srv/")
    second = mk.export.publish(exported, serving / "vqa", RAW)
    other = mk.export.publish(exported, serving / "other", RAW, root="/srv")
    assert [first, second, other] == [serving / p for p in ("vqa/1", "vqa/2", "other/1")]
    assert {p.name for p in serving.iterdir()} == {
        *("vqa", "other", "models.config", "batching_parameters.txt", "monitoring.config")
    }
    assert sorted(p.name for p in (serving / "vqa").iterdir()) == ["1", "2"]
    assert (first / "saved_model.pb").read_bytes() == (exported / "saved_model.pb").read_bytes()
    assert sorted(p.relative_to(exported) for p in exported.rglob("*")) == before
    assert first.stat().st_mode == exported.stat().st_mode  # the server is another user
    config = text_format.Parse(
        (serving / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    held = [(m.name, m.base_path, m.model_platform) for m in config.model_config_list.config]
    assert held == [(name, f"/srv/{name}", "tensorflow") for name in ("vqa", "other")]
    batching = (serving / "batching_parameters.txt").read_text()
    assert "max_batch_size { value: 4 }" in batching
    assert re.findall("allowed_batch_sizes: (.*)", batching) == ["1", "4"]
    assert 'path: "/monitoring/prometheus/metrics"' in (serving / "monitoring.config").read_text()


def test_warm_up_requests_are_real_rows_of_every_size(exported, tmp_path):
    raw = {name: values for name, values in RAW.items() if name != "more"}
    version = mk.export.publish(
        exported, tmp_path / "vqa", raw, batch_sizes=(1, 5), signatures=("serving_default", "twin")
    )
    held = list(requests(version / "assets.extra" / "tf_serving_warmup_requests"))
    spec = [(r.model_spec.name, r.model_spec.signature_name) for r in held]
    assert spec == [("vqa", n) for n in ("serving_default", "serving_default", "twin", "twin")]
    for request, size in zip(held, (1, 5, 1, 5), strict=True):
        tensors = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        rows = [i % 3 for i in range(size)]
        assert tensors["text"].tolist() == [RAW["text"][i] for i in rows]
        np.testing.assert_array_equal(tensors["numbers"], RAW["numbers"][rows])
        assert tensors["more"].tolist() == [[0.5]] * size  # a default, as often as there are rows


@pytest.mark.parametrize(
    ("raw", "options", "match"),
    [
        ({"words": [b""]}, {}, r"takes \['more', 'numbers', 'text'\].*Received: \['words'\]"),
        ({}, {}, r"Received: \[\]. Pass what `data.raw"),
        (RAW, {"signatures": ("none",)}, "no signature 'none'. It has: serving_default, twin"),
        (RAW, {"signatures": ()}, "1 to 1000 warm-up requests. Received: 0 signatures"),
        (RAW, {"batch_sizes": ()}, r"Batch sizes must be whole numbers >= 1. Received: \(\)"),
        (RAW, {"batch_sizes": (0, 4)}, r"Batch sizes must be .* Received: \(0, 4\)"),
    ],
)
def test_a_version_that_fails_is_never_seen(exported, tmp_path, raw, options, match):
    with pytest.raises(ValueError, match=match):
        mk.export.publish(exported, tmp_path / "vqa", raw, **options)
    assert not list(tmp_path.glob("vqa/*")) and not list(tmp_path.glob("*.config"))


def test_an_output_needs_a_row_for_each_of_the_request(tmp_path):
    exported = export(tmp_path / "exported", rows=False)
    with pytest.raises(ValueError, match=r"a row for each.*'sum' of shape \(\) for 1 rows"):
        mk.export.publish(exported, tmp_path / "serving" / "vqa", RAW)
    assert not list((tmp_path / "serving" / "vqa").iterdir())


def test_a_version_is_whole_when_it_is_seen(exported, tmp_path, monkeypatch):
    base, seen = tmp_path / "vqa", []

    def warm_up(folder, *args, **kwargs):
        seen.append((module.versions(base), folder.is_dir()))
        file = folder / "assets.extra" / "tf_serving_warmup_requests"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")

    flushed = []
    flush, renamed = files.flush, os.rename

    def rename(folder, *args):
        assert Path(folder) == flushed[-1], "else a loss of power leaves empty files"
        renamed(folder, *args)

    monkeypatch.setattr(module, "warm_up", warm_up)
    monkeypatch.setattr(files, "flush", lambda path: (flushed.append(Path(path)), flush(path)))
    monkeypatch.setattr(os, "rename", rename)
    for _ in range(2):
        mk.export.publish(exported, base, RAW)
    assert seen == [([], True), ([1], True)]


def test_two_at_once_get_two_numbers(exported, tmp_path, monkeypatch):
    base, stale = tmp_path / "vqa", [[], []]
    versions = module.versions
    monkeypatch.setattr(module, "warm_up", lambda *args, **kwargs: None)
    monkeypatch.setattr(module, "versions", lambda b: stale.pop() if stale else versions(b))
    made = [mk.export.publish(exported, base, RAW).name for _ in range(2)]
    assert made == ["1", "2"]


def test_files_of_the_server_stay_as_they_are(exported, tmp_path):
    written = """model_config_list { config {
        name: "old"
        base_path: "/m/old"
        model_version_policy { specific { versions: 3 } }
        version_labels { key: "stable" value: 3 }
    } }"""
    (tmp_path / "models.config").write_text(written)
    (tmp_path / "monitoring.config").write_text("mine")
    batching = "max_batch_size { value: 2 }\nallowed_batch_sizes: 2  # and no 1\n"
    (tmp_path / "batching_parameters.txt").write_text(batching)
    version = mk.export.publish(exported, tmp_path / "vqa", RAW)
    held = requests(version / "assets.extra" / "tf_serving_warmup_requests")
    assert [len(r.inputs["text"].string_val) for r in held] == [2]
    with pytest.raises(ValueError, match=r"batch_sizes=\(1, 2\), the file allows \[2\]. Leave"):
        mk.export.publish(exported, tmp_path / "vqa", RAW, batch_sizes=(1, 2))
    assert (tmp_path / "monitoring.config").read_text() == "mine"
    assert (tmp_path / "batching_parameters.txt").read_text() == batching
    config = text_format.Parse(
        (tmp_path / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert [m.name for m in config] == ["old", "vqa"]
    assert list(config[0].model_version_policy.specific.versions) == [3]
    assert config[0].version_labels["stable"] == 3


def test_what_is_published_where(exported, tmp_path):
    with pytest.raises(ValueError, match="`exported` must be a SavedModel.*no saved_model.pb"):
        mk.export.publish(tmp_path, tmp_path / "vqa", RAW)
    with pytest.raises(ValueError, match="a letter first. Received: '1'. Write e.g."):
        mk.export.publish(exported, tmp_path / "vqa" / "1", RAW)


def test_the_extra_is_named(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.delitem(sys.modules, "tensorflow_serving.apis", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'mmkeras\[serving\]'"):
        mk.export.publish(exported, tmp_path / "vqa", RAW)
    assert not list((tmp_path / "vqa").iterdir())


def test_processes_that_publish_at_once_lose_no_model(tmp_path):
    """Read, add and write are one step; without a lock about half of the models are lost."""

    def add(number):
        for i in range(10):
            server_files(tmp_path, f"m{number}_{i}", sizes=(1, 8))

    several = multiprocessing.get_context("fork")
    workers = [several.Process(target=add, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    config = text_format.Parse(
        (tmp_path / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert {m.name for m in config} == {f"m{n}_{i}" for n in range(4) for i in range(10)}
    assert len(list(tmp_path.iterdir())) == 3, "no temporary file is left"
    with pytest.raises(ValueError, match=r"batch_sizes=\(4,\), the file allows \[1, 8\]"):
        server_files(tmp_path, "late", sizes=(4,))


def test_a_version_is_not_seen_where_the_files_of_the_server_cannot_be_written(exported, tmp_path):
    (tmp_path / "models.config").write_text("no text format {{{")
    with pytest.raises(ValueError, match="models.config must hold a ModelServerConfig.*Mend"):
        mk.export.publish(exported, tmp_path / "vqa", RAW)
    assert not list((tmp_path / "vqa").iterdir())


def test_text_ops_are_loaded_when_a_model_needs_them(exported, monkeypatch):
    answer, loader = sys.modules["mmkeras.export.answer"], tf.compat.v1.saved_model.loader
    load, sessions, loaded = loader.load, [], []

    def picky(session, *args):
        sessions.append(session)
        if not loaded:
            raise tf.errors.NotFoundError(None, None, "Op type not registered 'Tokenize'")
        return load(session, *args)

    monkeypatch.setattr(loader, "load", picky)
    monkeypatch.setattr(answer, "_load_text_ops", lambda: loaded.append(True))
    with answer.Loaded(exported) as model:
        assert model.ask({"text": ["abc"]})["length"].tolist() == [3]
    assert loaded == [True]
    for session in sessions:
        with pytest.raises(RuntimeError, match="closed Session"):
            session.run([])
