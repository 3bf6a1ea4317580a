"""The README's Python blocks run, in order and in one namespace; its commands exist."""

import re
from pathlib import Path

import mmkeras as mk

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_blocks_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for number, block in enumerate(blocks("python"), start=1):
        exec(compile(block, f"README block {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "train: 9 rows" in printed and "valid: 3 rows" in printed
    assert (tmp_path / "serving/vqa/1/saved_model.pb").exists()
    assert list((tmp_path / "runs/vqa/tensorboard").rglob("events*"))
    assert "\nFalse\n" in printed  # what jit="auto" takes in a run too short to measure
    assert namespace["frozen"] and all(name.startswith("numbers_") for name in namespace["frozen"])
    assert (tmp_path / "runs/shapes/log.csv").exists()


def test_commands_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    assert "make test" in (ROOT / ".ci/run").read_text()
    for module in re.findall(r"python -m experiments\.(\w+)", README):
        assert (ROOT / "experiments" / f"{module}.py").exists(), module


def test_every_family_is_listed():
    from mmkeras.encoders import ENCODERS
    from mmkeras.fusion import FUSIONS

    for name in [*FUSIONS, *(n for table in ENCODERS.values() for n in table)]:
        assert f"`{name}`" in README, name
    for head in ("Classifier", "MultiLabel", "Regressor"):
        assert head in mk.heads.__all__ and f"`{head}`" in README, head
