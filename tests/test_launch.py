"""The launcher: TF_CONFIG from schedulers' variables, workers that end and start together."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mmkeras import launch
from mmkeras.cluster import node_names, tf_config

SLURM = {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "10000042", "SLURM_PROCID": "2"}
RANKS = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "4000"}


@pytest.mark.parametrize(
    ("environ", "options", "index", "addresses"),
    [
        (
            {**SLURM, "SLURM_JOB_NODELIST": "node[01-02,7]"},
            {},
            2,
            ["node01:23498", "node02:23498", "node7:23498"],
        ),
        (
            {
                **SLURM,
                "SLURM_JOB_NODELIST": "a,b,c,d",
                "SLURM_STEP_NODELIST": "a,b",
                "SLURM_STEP_TASKS_PER_NODE": "2,1",
            },
            {"port": 5000},
            2,
            ["a:5000", "a:5001", "b:5000"],
        ),
        (
            {
                **SLURM,
                "SLURM_NTASKS": "6",
                "SLURM_JOB_NODELIST": "x[1-3]",
                "SLURM_TASKS_PER_NODE": "2(x3)",
                "SLURM_STEP_NUM_TASKS": "6",
            },
            {"port": 1},
            2,
            ["x1:1", "x1:2", "x2:1", "x2:2", "x3:1", "x3:2"],
        ),
        (RANKS, {}, 1, ["localhost:4001", "localhost:4002"]),
        ({**RANKS, "MASTER_ADDR": "a"}, {"hosts": ["a", "b"]}, 1, ["a:4001", "b:4001"]),
        (
            {"JOB_COMPLETION_INDEX": "0"},
            {"hosts": ["p-0.p", "p-1.p"]},
            0,
            ["p-0.p:23456", "p-1.p:23456"],
        ),
    ],
)
def test_tf_config_of_schedulers(environ, options, index, addresses):
    assert tf_config(environ, **options) == {
        "cluster": {"worker": addresses},
        "task": {"type": "worker", "index": index},
    }


@pytest.mark.parametrize(
    "environ",
    [{}, {"SLURM_NTASKS": "2"}, {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, {"RANK": "0"}],
)
def test_no_scheduler(environ):
    assert tf_config(environ) is None


@pytest.mark.parametrize(
    ("environ", "options", "error"),
    [
        (SLURM, {}, "node list must be known.*srun"),
        ({**SLURM, "SLURM_JOB_NODELIST": "a,b"}, {}, "3 processes must divide evenly over 2"),
        (
            {**SLURM, "SLURM_JOB_NODELIST": "a,b", "SLURM_TASKS_PER_NODE": "2"},
            {},
            "tasks per node must sum up to 3 over 2 nodes. Received: '2'",
        ),
        (
            {**SLURM, "SLURM_JOB_NODELIST": "a,b", "SLURM_TASKS_PER_NODE": "many"},
            {},
            "must look like '2\\(x3\\),1'. Received: 'many'",
        ),
        ({**SLURM, "SLURM_JOB_NODELIST": "a[1-", "SLURM_NTASKS": "2"}, {}, "must look like 'node"),
        ({**RANKS, "MASTER_ADDR": "far"}, {}, "MASTER_ADDR='far'.*Pass --hosts"),
        ({**RANKS, "RANK": "2"}, {}, "must lie in 0..1.*Received: 2"),
        ({**RANKS, "RANK": "first"}, {}, "RANK must be a whole number.*'first'"),
        ({"JOB_COMPLETION_INDEX": "1"}, {}, "JOB_COMPLETION_INDEX=1.*Pass --hosts"),
    ],
)
def test_contradictions(environ, options, error):
    with pytest.raises(ValueError, match=error):
        tf_config(environ, **options)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("one", ["one"]),
        ("node[01-03,7],login-2.far", ["node01", "node02", "node03", "node7", "login-2.far"]),
        ("r[1-2]n[08-10]", [f"r{r}n{n}" for r in (1, 2) for n in ("08", "09", "10")]),
        ("gpu[099-101]x", ["gpu099x", "gpu100x", "gpu101x"]),
    ],
)
def test_node_names(text, names):
    assert node_names(text) == names


def test_gpus_are_shared_out():
    shares = launch.gpu_shares({"CUDA_VISIBLE_DEVICES": "3,5,6,7"}, 2)
    assert shares == [{"CUDA_VISIBLE_DEVICES": "3,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    assert launch.gpu_shares({"CUDA_VISIBLE_DEVICES": ""}, 2) == [{}, {}]
    for gpus in ("0", "0,1,2"):
        with pytest.raises(ValueError, match="2 workers must share the GPUs evenly"):
            launch.gpu_shares({"CUDA_VISIBLE_DEVICES": gpus}, 2)


SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
config = json.loads(os.environ["TF_CONFIG"])
index, out, mode = config["task"]["index"], Path(sys.argv[1]), sys.argv[2]
with (out / f"ports-{index}").open("a") as file:
    file.write(json.dumps(config["cluster"]["worker"]) + "\\n")
print("worker", index, "says hello", flush=True)
if mode == "once" and (out / f"ports-{index}").read_text().count("[") > 1:
    sys.exit(0)  # started again
if mode == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
if index == 1 and mode in ("once", "fail"):
    other = out / "ports-0"
    while not (other.exists() and other.read_text()): time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL) if mode == "once" else sys.exit(3)
time.sleep(0 if mode == "good" else 60)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


def command(script, mode, *options):
    return [sys.executable, "-m", "mmkeras.launch", *options, str(script), str(script.parent), mode]


def clean(**more):
    names = ("TF_CONFIG", "SLURM_PROCID", "RANK", "JOB_COMPLETION_INDEX")
    return {**{k: v for k, v in os.environ.items() if k not in names}, **more}


def call(script, mode, *options, **environ):
    return subprocess.run(
        command(script, mode, *options),
        capture_output=True,
        text=True,
        timeout=30,
        env=clean(**environ),
    )


def ports(script, index):
    return [json.loads(line) for line in (script.parent / f"ports-{index}").open()]


def test_all_good(script):
    done = call(script, "good", "--workers", "2")
    assert done.returncode == 0
    lines = {"[0] worker 0 says hello", "[1] worker 1 says hello"}
    assert set(done.stdout.splitlines()) == lines
    [mine], [other] = ports(script, 0), ports(script, 1)
    assert mine == other and len(set(mine)) == 2


def test_one_failure_ends_all_with_its_code(script):
    start = time.monotonic()
    done = call(script, "fail", "--workers", "2", "--grace", "5")
    assert done.returncode == 3 and time.monotonic() - start < 25
    assert "[launch] worker 1 ended with 3: ending all" in done.stdout


def test_restart_on_the_same_ports(script):
    done = call(script, "once", "--workers", "2", "--restarts", "2", "--grace", "5")
    assert done.returncode == 0
    assert "worker 1 ended with 137" in done.stdout and "restart 1 of 2" in done.stdout
    assert "restart 2" not in done.stdout
    first, second = ports(script, 1)
    assert first == second


def test_sigterm_reaches_the_workers(script):
    started = subprocess.Popen(
        command(script, "wait", "--workers", "2", "--restarts", "3"),
        stdout=subprocess.PIPE,
        text=True,
        env=clean(),
    )
    hello = {started.stdout.readline() for _ in range(2)}
    assert hello == {"[0] worker 0 says hello\n", "[1] worker 1 says hello\n"}
    time.sleep(0.2)  # until the scripts have set their handlers
    started.send_signal(signal.SIGTERM)
    rest, _ = started.communicate(timeout=20)
    assert started.returncode == 75 and "restart" not in rest


def test_a_rank_of_a_scheduler_becomes_the_script(script):
    slurm = {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    done = call(script, "good", "--port", "700", **slurm)
    assert (done.returncode, done.stdout) == (0, "worker 1 says hello\n")
    assert ports(script, 1) == [["n1:700", "n2:700"]]
    given = {"cluster": {"worker": ["h:1"]}, "task": {"type": "worker", "index": 0}}
    assert call(script, "good", TF_CONFIG=json.dumps(given)).returncode == 0
    assert ports(script, 0) == [["h:1"]]
    refused = call(script, "good", "--workers", "3", **slurm)
    assert refused.returncode == 1 and "has started 2 ranks" in refused.stderr
    refused = call(script, "good")
    assert refused.returncode == 1 and "`--workers` must be at least 1" in refused.stderr


def test_the_launcher_loads_no_tensorflow():
    code = (
        "import sys, mmkeras.launch, mmkeras.data_service; "
        "print({'tensorflow', 'keras'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "set()\n"
