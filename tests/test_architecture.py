"""A package imports only lower ranks, and TensorFlow only where it may."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmkeras"
RANKS = {
    "core": 0,
    "serving": 0,
    "data": 1,
    "layers": 1,
    "encoders": 2,
    "alignment": 2,
    "fusion": 2,
    "heads": 2,
    "objectives": 2,
    "models": 3,
    "training": 4,
    "evaluation": 4,
    "export": 5,
}
TENSORFLOW = {"data", "training", "export"}
TENSORFLOW_FILES = {"serving/rpc.py"}  # gRPC, whose API package needs TensorFlow; REST does not


def imports(path):
    """Yields (line, absolute module) of every import in a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def violations(path, package):
    """Returns what a file of a package may not import."""
    found = []
    for line, module in imports(path):
        parts = module.split(".")
        if parts[:1] == ["mmkeras"] and len(parts) > 1 and parts[1] in RANKS:
            other = parts[1]
            if RANKS[other] >= RANKS[package] and other != package:
                found.append(f"{path.name}:{line}: {package} imports {module}")
        if parts[:2] == ["keras", "src"]:
            found.append(f"{path.name}:{line}: imports {module}")
        allowed = package in TENSORFLOW or f"{package}/{path.name}" in TENSORFLOW_FILES
        if parts[0].startswith("tensorflow") and not allowed:
            found.append(f"{path.name}:{line}: {package} imports {module}")
    return found


def packages():
    return sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__")


def test_every_package_has_a_rank():
    assert set(packages()) <= set(RANKS)


@pytest.mark.parametrize("package", packages())
def test_imports_point_down(package):
    files = list((PACKAGE / package).rglob("*.py"))
    assert files
    assert not [v for file in files for v in violations(file, package)]


@pytest.mark.parametrize(
    ("package", "line", "wrong"),
    [
        ("core", "from mmkeras.fusion import get", True),
        ("encoders", "from mmkeras.fusion import get", True),
        ("fusion", "from mmkeras.layers import masked_mean", False),
        ("fusion", "import tensorflow as tf", True),
        ("layers", "from tensorflow_text import BertTokenizer", True),
        ("training", "from keras.src import backend", True),
        ("training", "import tensorflow as tf", False),
        ("models", "from mmkeras import training", True),
        ("serving", "import tensorflow as tf", True),
        ("serving", "from mmkeras.core import checks", True),
        ("data", "from mmkeras.layers import masked_mean", True),
    ],
)
def test_the_rule_itself(tmp_path, package, line, wrong):
    file = tmp_path / "file.py"
    file.write_text(f"def late():\n    {line}\n")
    assert bool(violations(file, package)) == wrong


def test_private_keras_names_live_in_one_file():
    # Overriding is how the model class works; reading private names is for private.py alone.
    reads = re.compile(r"\b(_symbolic_build|_loss_tracker|keras\.src)\b")
    for file in PACKAGE.rglob("*.py"):
        if file.name != "private.py":
            code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.DOTALL)
            code = code.replace("_maybe_symbolic_build", "")
            assert not reads.search(code), file
