"""The data service: the same batches through other processes, and the death of a worker."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras import processes
from mmkeras.data import scenes, service


class Supervisor:
    """`python -m mmkeras.data_service` with two workers; keeps its output."""

    def __init__(self, folder):
        self.output = (folder / "output").open("w+")
        port = str(processes.free_ports(1)[0])
        command = ["-m", "mmkeras.data_service", "--workers", "2", "--port", port]
        self.address = f"grpc://localhost:{port}"
        self.process = subprocess.Popen(
            [sys.executable, *command, "--work-dir", str(folder / "journal")],
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def said(self):
        return Path(self.output.name).read_text()

    def workers(self):
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        held = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in pids.split()}
        return [int(pid) for pid, words in held.items() if "worker" in words]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    supervisor = Supervisor(tmp_path_factory.mktemp("service"))
    yield supervisor
    supervisor.process.send_signal(signal.SIGTERM)
    assert supervisor.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def data():
    rows = {k: v[:28] for k, v in scenes.questions(9, seed=3, size=32).items()}
    made = scenes.generate(max(rows["scene"]) + 1, seed=3, size=32)
    rows["sound"] = [made[i].sound for i in rows["scene"]]
    rows["also"] = rows["question"]
    specs = {
        "image": mk.Image(size=32),
        "question": mk.Text(length=9),  # a table
        "also": mk.Text(length=9, tokenizer="wordpiece"),  # ops of tensorflow_text
        "sound": mk.Audio(rate_hz=8000, seconds=0.2, num_bands=8),
    }
    return mk.data.table(rows, specs, "answer", seed=5)


def within(seconds, work):
    """Calls `work` in a thread that cannot hold the tests up; returns what it returns."""
    done = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, f"not done after {seconds} s"
    return done[0]


def key(batch):
    return tuple(np.asarray(leaf).tobytes() for leaf in tf.nest.flatten(batch))


def test_every_batch_of_an_epoch_arrives_once(running, data):
    train = data.train(7)
    served = within(60, lambda: mk.data.distribute(train, running.address))
    assert served.steps == train.steps == 4
    assert served.element_spec == train.stream().element_spec
    got = within(60, lambda: [key(batch) for batch in served.stream(8).take(24)])
    # Six epochs, in whatever order the two workers deliver; a batch in flight may be left out.
    expected = [key(batch) for batch in train.stream(8).take(28)]
    assert len(set(got)) == 24 and len(set(got) - set(expected)) <= 2


def test_any_dataset_of_known_cardinality(running):
    whole = tf.data.Dataset.range(3).map(lambda i: tf.range(4 * i, 4 * i + 4))
    served = within(60, lambda: mk.data.distribute(whole, running.address, compression=None))
    got = within(60, lambda: [batch.numpy().tolist() for batch in served.take(12)])
    assert served.steps == 3
    assert all(batch in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]) for batch in got)
    with pytest.raises(ValueError, match="Several readers can share only a dataset of mk.data"):
        served.stream(0, (0, 2))


def test_rows_of_another_dataset_are_dealt_out_to_the_workers(running):
    rows = tf.data.Dataset.range(12).batch(4)
    served = within(60, lambda: mk.data.distribute(rows, running.address, compression=None))
    got = within(60, lambda: [batch.numpy().tolist() for batch in served.take(40)])
    # Whatever worker a row goes to, a batch is made within one round, from rows in their order.
    assert all(batch == sorted(set(batch)) and len(batch) <= 4 for batch in got)
    assert set(sum(got, [])) == set(range(12))


def test_training_survives_the_death_of_all_workers(running, data):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.killed = running.workers()
                for pid in self.killed:
                    os.kill(pid, signal.SIGKILL)

    model = mk.assemble(
        data.modalities,
        heads={"answer": mk.heads.Classifier(data.classes)},
        hidden_dim=8,
        encoders={"sound": {"name": "cnn", "filters": (8,)}},
        fusion="concatenation",
    )
    model.compile(keras.optimizers.SGD(0.01), jit=False)
    kill = Kill()
    served = within(60, lambda: mk.data.distribute(data.train(7), running.address))
    log = within(90, lambda: model.fit(served, epochs=8, verbose=0, callbacks=[kill]).history)
    assert len(kill.killed) == 2
    assert int(model.optimizer.iterations.numpy()) == 32 and len(log["loss"]) == 8
    assert all(f"worker {i} ended with 137: again" in running.said() for i in (0, 1))


def test_errors_come_before_training(monkeypatch, data):
    with pytest.raises(ValueError, match="must look like 'grpc://host:port'.*'localhost:1'"):
        mk.data.distribute(data.train(7), "localhost:1")
    unknown = tf.data.Dataset.range(9).filter(lambda i: i > 2)
    with pytest.raises(ValueError, match="number of batches must be known.*cardinality -2"):
        mk.data.distribute(unknown, "grpc://localhost:1")
    with pytest.raises(ConnectionError, match="No data service answers.*mmkeras.data_service"):
        mk.data.distribute(data.train(7), "grpc://localhost:1", wait_seconds=0)
    monkeypatch.setattr(service, "_wait_for", lambda *_: None)
    monkeypatch.setattr(service, "LIMIT_BYTES", 2**14)
    with pytest.raises(ValueError, match="must stay below.*MiB.*Received: .* MiB. Give paths"):
        mk.data.distribute(data.train(7), "grpc://localhost:1")
