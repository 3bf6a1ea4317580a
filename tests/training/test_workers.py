"""Two workers equal one process, only the chief writes, and a killed worker loses nothing."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import workers
from tests.training import joint_gradients

SCRIPT = Path(__file__).with_name("pair.py")
TWO = ["localhost:1", "localhost:2"]


def run(*command):
    """Runs this Python, at most five minutes; returns its output."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def launched(out, *arguments, restarts=0):
    options = ("--workers", 2, "--restarts", restarts, "--grace", 20)
    return run("-m", "mmkeras.launch", *options, SCRIPT, out, *arguments)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    run(SCRIPT, folder)
    launched(folder)
    return folder


def results(out, name):
    with np.load(out / f"{name}.npz") as file:
        return dict(file)


@pytest.mark.parametrize("jit", [False, True])
def test_two_workers_equal_one_process(out, jit):
    alone, chief, other = (results(out, name) for name in ("alone", "0", "1"))
    assert alone["steps"] == chief["steps"] == 20
    names = [k for k in alone if k.startswith((f"log/{jit}/", "evaluate/", "predict"))]
    assert {"val_loss", "accuracy"} < {name.split("/")[-1] for name in names}
    for name in names:
        np.testing.assert_array_equal(chief[name], other[name], err_msg=name)
        # The order of float32 sums is all that differs; measured 3e-7.
        np.testing.assert_allclose(chief[name], alone[name], rtol=1e-5, atol=1e-6, err_msg=name)
    weights = [k for k in alone if k.startswith(f"weights/{jit}/")]
    assert len(weights) > 6
    for name in weights:
        np.testing.assert_array_equal(chief[name], other[name], err_msg=name)
        assert np.abs(chief[name] - alone[name]).max() <= 1e-6, name
    assert len(chief["predict"]) == 25


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    run(SCRIPT, folder, "joint")
    launched(folder, "joint")
    return [results(folder, f"joint-{name}") for name in ("alone", "0", "1")]


@pytest.mark.parametrize("case", joint_gradients.CASES)
def test_losses_of_the_global_batch_have_one_device_s_gradients(joint, case):
    alone, chief, other = joint
    names = [name for name in alone if name.startswith(f"joint/{case}/")]
    gradients = [name for name in names if "/gradient/" in name]
    assert len(gradients) >= 12 and all(np.abs(alone[name]).max() > 1e-4 for name in gradients)
    assert sum(name.endswith("/loss") for name in names) == joint_gradients.STEPS
    assert any("queue" in name for name in names) == case.startswith("queue")
    for name in names:
        np.testing.assert_array_equal(chief[name], other[name], err_msg=name)
        # The order of float32 sums, and with XLA the way exp is computed, are all that differ, in
        # gradients up to 4 and losses up to 13; measured 1.3e-6.
        np.testing.assert_allclose(chief[name], alone[name], rtol=0, atol=5e-6, err_msg=name)


def test_only_the_chief_writes(out):
    run_dir = out / "whole"
    # Train, validation, samples and profile: one event file each, of one process.
    events = [path.name for path in run_dir.rglob("events.*")]
    assert len(events) == 4 and len({name.split(".")[5] for name in events}) == 1
    assert (run_dir / "best.keras").exists()
    with (run_dir / "log.csv").open() as file:
        assert [int(line["epoch"]) for line in csv.DictReader(file)] == [0, 1, 2]
    assert not (run_dir / "checkpoints").exists()  # removed by all when the run ends


def test_a_killed_worker_loses_nothing(out):
    said = launched(out, "killed", restarts=1)
    assert (out / "killed.mark").exists()
    assert "[launch] worker 1 ended with 137" in said and "[launch] restart 1 of 1" in said
    begun = [int(step) for step in (out / "begun-0").read_text().split()]
    assert begun[:8] == list(range(8))
    assert begun[-9:] == list(range(6, 15))  # from the checkpoint of step 6, not from the start
    for rank in ("0", "1"):
        whole, killed = results(out, rank), results(out, f"killed-{rank}")
        assert len(killed) > 6
        for name, weight in killed.items():
            np.testing.assert_array_equal(weight, whole[name.replace("killed", "whole")])
    logs = [(out / name / "log.csv").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def config(task, index, **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": task, "index": index}})


@pytest.mark.parametrize(
    ("text", "chief", "several"),
    [
        ("", True, False),
        ("{}", True, False),
        (config("worker", 0, worker=TWO), True, True),
        (config("worker", 1, worker=TWO), False, True),
        (config("worker", 0, worker=TWO[:1]), True, False),
        (config("chief", 0, chief=TWO[:1], worker=TWO[1:]), True, True),
        (config("worker", 0, chief=TWO[:1], worker=TWO[1:]), False, True),
    ],
)
def test_who_is_chief(monkeypatch, tmp_path, text, chief, several):
    monkeypatch.setenv("TF_CONFIG", text)
    assert mk.training.is_chief() == chief
    assert workers.several() == several
    assert workers.own(tmp_path) == (tmp_path if chief else tmp_path / json_task(text))


def json_task(text):
    task = json.loads(text)["task"]
    return f"{task['type']}-{task['index']}"


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        json.dumps({"cluster": {"worker": TWO}}),
        config("worker", 2, worker=TWO),
        config("chief", 0, worker=TWO),
        config("worker", 0, worker=["localhost", "localhost:2"]),
        config("worker", 0, worker=TWO[:1] * 2),
        config("ps", 0, ps=TWO),
    ],
)
def test_a_wrong_tf_config_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(
        ValueError, match="TF_CONFIG must look like .*Let `python -m mmkeras.launch"
    ):
        mk.training.strategy("workers")


def test_the_others_get_no_callback_that_writes_logs(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", config("worker", 1, worker=TWO))
    made = mk.training.callbacks(tmp_path / "run")
    assert {type(callback).__name__ for callback in made} == {
        "_LearningRate",
        "NonFiniteGuard",
        "Resume",
    }
    assert not list(tmp_path.iterdir())
    guard = next(c for c in made if isinstance(c, mk.training.NonFiniteGuard))
    assert guard.folder == tmp_path / "run" / "nonfinite" / "worker-1"
    monkeypatch.setenv("TF_CONFIG", config("worker", 0, worker=TWO))
    assert len(mk.training.callbacks(tmp_path / "run")) == 7


def test_resume_of_several_workers_keeps_two(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "spans", lambda strategy: True)
    with pytest.raises(ValueError, match="must keep at least 2 checkpoints. Received: keep=1"):
        mk.training.Resume(tmp_path, keep=1).load(tf.distribute.get_strategy())


def test_workers_need_a_tf_config_and_must_come_first(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="needs a TF_CONFIG.*Received: None.*mmkeras.launch"):
        mk.training.strategy("workers")
    tf.zeros(1)  # TensorFlow has made its devices now
    monkeypatch.setenv("TF_CONFIG", config("worker", 0, worker=TWO))
    for spec in ("workers", "auto"):
        with pytest.raises(RuntimeError, match="'workers' must be asked for before TensorFlow"):
            mk.training.strategy(spec)
    assert not workers.spans(tf.distribute.get_strategy())


def test_one_process_reads_the_dataset_itself():
    strategy = tf.distribute.get_strategy()
    plain = tf.data.Dataset.range(3)
    assert workers.share(strategy, plain) == (plain, None)
    assert workers.share(strategy, plain, 2) == (plain, 2)
    assert workers.share(strategy, None, None) == (None, None)
    assert workers.agree(strategy, [3, 5]) == 5
