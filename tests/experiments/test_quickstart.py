"""The main job, on a slice: what it prints and leaves behind."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_quickstart_prints_what_the_readme_promises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", "--out", str(tmp_path), "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for row in ("picture and question", "question only", "majority answer"):
        assert re.search(rf"{row} +\d+\.\d %", done.stdout), row
    parity = float(re.search(r"largest difference: (\S+)", done.stdout)[1])
    assert parity <= 5e-6
    assert re.search(r"without a picture: 'is there a red circle\?' -> '\w+'", done.stdout)
    assert f"--logdir {tmp_path}" in done.stdout
    assert (tmp_path / "serving" / "vqa" / "1" / "saved_model.pb").exists()
    assert list((tmp_path / "film" / "tensorboard").rglob("events*"))
