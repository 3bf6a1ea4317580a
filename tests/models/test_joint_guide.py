"""docs/joint.md: its Python blocks run, and its table names the ways there are."""

import re
from pathlib import Path

from mmkeras.training.multitask import METHODS

GUIDE = (Path(__file__).parents[2] / "docs" / "joint.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


def test_the_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"docs/joint.md block {number}", "exec"), space)  # noqa: S102
    printed = capsys.readouterr().out
    assert "'kind_size_cosine'" in printed and "'size_weight'" in printed
    assert set(space["small"].output_names) == {"kind", "taught"}


def test_the_table_names_every_way():
    assert set(re.findall(r'^\| `"(\w+)"` \|', GUIDE, flags=re.MULTILINE)) == set(METHODS)
