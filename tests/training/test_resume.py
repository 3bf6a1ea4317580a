"""A run that was killed and started again equals one that was not, to the last bit."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import mmkeras as mk
from mmkeras.training import checkpoint
from tests.training import killed
from tests.training.interrupted import Interrupt

SCRIPT = Path(__file__).with_name("killed.py")


@pytest.fixture(scope="module")
def interrupted(script_result):
    return script_result("interrupted")


@pytest.mark.parametrize("case", ["step 2", "step 10", "validation 3", "epoch 2"])
def test_an_interrupted_run_ends_in_the_same_bits(interrupted, case):
    found = interrupted[case]
    assert found["interrupted"] and found["different"] == []
    assert found["same_history"] and found["same_log"] and not found["left"]


def test_killed_processes_on_two_replicas(tmp_path):
    def run(folder, *arguments):
        command = [sys.executable, str(SCRIPT), str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    done = run(tmp_path / "whole")
    assert done.returncode == 0, done.stderr[-2000:]
    assert run(tmp_path / "cut", "5", "SIGKILL").returncode == -signal.SIGKILL
    assert run(tmp_path / "cut", "13", "SIGTERM").returncode == mk.training.PREEMPTED
    held = checkpoint.load(tmp_path / "cut" / "checkpoints")[1]
    assert held["epoch"] * held["steps_per_epoch"] + held["step"] == 13  # SIGTERM loses nothing
    done = run(tmp_path / "cut")
    assert done.returncode == 0, done.stderr[-2000:]
    with (
        np.load(tmp_path / "whole/weights.npz") as whole,
        np.load(tmp_path / "cut/weights.npz") as cut,
    ):
        assert list(whole) == list(cut)
        for name in whole:
            np.testing.assert_array_equal(cut[name], whole[name], err_msg=name)
    logs = [(tmp_path / part / "log.csv").read_text() for part in ("whole", "cut")]
    assert logs[0] == logs[1] and logs[0].count("\n") == killed.EPOCHS + 1


# Other data and other runs


def plain(folder, epochs=3, size=4, extra=(), units=3, seed=1, **kwargs):
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)).astype("float32"), rng.normal(size=(20, 1)).astype("float32")
    rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(20, seed=seed).batch(size)
    inputs = keras.Input((5,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(units, name="hidden")(inputs))
    model = mk.Model(inputs, keras.layers.Dense(1, name="out")(hidden))
    model.compile("adam", "mse", jit=False)
    resume = mk.training.Resume(folder, every_steps=2, **kwargs)
    model.fit(rows, epochs=epochs, verbose=0, callbacks=[resume, *extra])
    return model


def test_a_dataset_of_ones_own_is_read_again_up_to_the_position(tmp_path):
    whole = plain(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        plain(tmp_path / "cut", extra=[Interrupt("step", 8)])
    again = plain(tmp_path / "cut", extra=[Interrupt("never", 0)])
    for a, b in zip(killed.state(whole).values(), killed.state(again).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_epochs_go_on_where_a_kept_run_ended(tmp_path):
    whole = plain(tmp_path / "whole", epochs=4)
    plain(tmp_path / "cut", epochs=2, delete=False)
    longer = plain(tmp_path / "cut", epochs=4, delete=False)
    for a, b in zip(killed.state(whole).values(), killed.state(longer).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    plain(tmp_path, epochs=1, delete=False)
    with pytest.raises(ValueError, match=r"steps per epoch 10, the checkpoint has 5.*run folder"):
        plain(tmp_path, size=2)
    with pytest.raises(
        ValueError, match=r"variables \['hidden/kernel', \[5, 4\]\], the check.*3\]"
    ):
        plain(tmp_path, units=4)
    with pytest.raises(ValueError, match="callbacks Interrupt, the checkpoint has"):
        plain(tmp_path, extra=[Interrupt("never", 0)])
    with pytest.raises(ValueError, match="one Resume at most"):
        plain(tmp_path, extra=[mk.training.Resume(tmp_path / "b")])
    model = plain(tmp_path / "new", epochs=1)
    with pytest.raises(ValueError, match="position can be found again. Received: ndarray"):
        model.fit(np.zeros((4, 5)), np.zeros((4, 1)), callbacks=[mk.training.Resume(tmp_path)])


# Files


def save(folder, step, **kwargs):
    return checkpoint.save(folder, step, {"a/b": np.arange(step)}, {"step": step}, **kwargs)


def test_checkpoints_are_rotated_and_whole(tmp_path):
    for step in (3, 5, 120):
        save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000005", "step-00000120"]
    arrays, state = checkpoint.load(tmp_path)
    assert state == {"step": 120}
    np.testing.assert_array_equal(arrays["a/b"], np.arange(120))
    assert checkpoint.load(tmp_path / "none") is None


@pytest.mark.parametrize("harm", ["torn", "flipped", "lost", "state", "sums"])
def test_a_corrupt_newest_checkpoint_falls_back_with_a_warning(tmp_path, harm):
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    arrays = newest / "arrays.npz"
    data = bytearray(arrays.read_bytes())
    if harm == "torn":
        arrays.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        data[len(data) // 2] ^= 1
        arrays.write_bytes(data)
    elif harm == "lost":
        arrays.unlink()
    elif harm == "state":
        (newest / "state.json").write_text(json.dumps({"names": [], "state": {}}))
    else:
        (newest / "SHA256SUMS").unlink()
    with pytest.warns(UserWarning, match="step-00000002 is not sound"):
        assert checkpoint.load(tmp_path)[1] == {"step": 1}
    shutil.rmtree(tmp_path / "step-00000001")
    with pytest.warns(UserWarning, match="is not sound"):
        assert checkpoint.load(tmp_path) is None
