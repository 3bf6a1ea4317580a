"""Builds and runs `serve.c`: a SavedModel behind TensorFlow's C API, without Python."""

import importlib.util
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def _folder(package):
    """Where a package is installed, without importing it."""
    return Path(importlib.util.find_spec(package).submodule_search_locations[0])


def text_libraries():
    """The op libraries of tensorflow_text; those of its `core` need Python."""
    return sorted(str(file) for file in (_folder("tensorflow_text") / "python/ops").glob("*.so"))


def build(folder):
    """Compiles the program against the shared libraries that TensorFlow's wheel ships."""
    home, program = _folder("tensorflow"), Path(folder) / "serve"
    libraries = [f"-l:{file.name}" for file in sorted(home.glob("libtensorflow_*.so.2"))]
    command = [COMPILER, "-std=c11", "-Wall", "-Werror", f"-I{home / 'include'}"]
    command += [str(Path(__file__).with_name("serve.c")), "-o", str(program)]
    command += [f"-L{home}", *libraries, f"-Wl,-rpath,{home}"]
    subprocess.run(command, check=True)
    return program


def ask(program, model, raw, folder, *, signature="serving_default", libraries=()):
    """Returns the outputs for a request: input name -> strings or numbers."""
    inputs = []
    for name, values in raw.items():
        values = np.asarray(values)
        file = Path(folder) / f"{name}.request"
        file.write_bytes(_content(values))
        inputs += [name, "x".join(map(str, values.shape)), str(file)]
    command = [str(program), str(model), signature, *libraries, "--", *inputs]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(_output(line) for line in done.stdout.splitlines())


def _content(values):
    if values.dtype.kind in "OSU":
        items = [item.encode() if isinstance(item, str) else item for item in values.ravel()]
        return b"".join(struct.pack("<I", len(item)) + item for item in items)
    return values.astype("float32" if values.dtype == "float64" else values.dtype).tobytes()


def _output(line):
    name, dims, *values = line.split(" ")
    shape = tuple(map(int, dims.split("x"))) if dims else ()
    if name.endswith(("_label", "_labels")):
        values = [bytes.fromhex(value).decode() for value in values]
        return name, np.array(values).reshape(shape)
    return name, np.array(values, "float32").reshape(shape)
