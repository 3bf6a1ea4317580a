"""Scripts that need a process of their own, because logical devices are set once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def script_result(tmp_path_factory):
    """Runs `python NAME.py OUT.json` of this folder and returns what it wrote."""

    def run(name):
        out = tmp_path_factory.mktemp(name) / "out.json"
        script = Path(__file__).with_name(f"{name}.py")
        done = subprocess.run(
            [sys.executable, str(script), str(out)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(out.read_text())

    return run
