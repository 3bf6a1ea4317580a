"""`inspect`: what is in an exported folder and what it needs, without loading it."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from mmkeras.export.about import FILE, about
from mmkeras.export.shown import Shown, columns


def inspect(path: str | os.PathLike) -> Shown:
    """Returns signatures, ops, sizes and the needed TensorFlow; `print` shows them as a table.

    Args:
        path: a version folder, of `saved_model` or any other SavedModel.

    Returns:
        A dict of
        signatures: name -> `inputs` (name -> dtype, shape, optional: whether it has a default) and
            `outputs` (name -> dtype, shape).
        ops: name of a TensorFlow op -> how often it stands in the graph and its functions.
        beyond_core: those of them that TensorFlow's own library lacks (of tensorflow_text, say).
        variables: of the checkpoint: `count`, `numbers` in them and `bytes` by dtype. Keras keeps
            a weight that a signature reads twice: as the layer's and as the function's.
        bytes: of each file, and `total`.
        tensorflow: `written_by`, the version; `needs`: a version specifier. TensorFlow 2.x reads
            what an earlier 2.x wrote; the other way round it promises nothing.
        about: of `mmkeras.json`, None where there is none.

    Raises:
        ValueError: no SavedModel there.
    """
    path = Path(path)
    if not (path / "saved_model.pb").is_file():
        raise ValueError(
            "A SavedModel is a folder with a saved_model.pb. Received: "
            f"{str(path)!r}, without. Give the version folder, such as serving/vqa/1."
        )
    held = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph = held.meta_graphs[0]
    written = graph.meta_info_def.tensorflow_version
    ops = _ops(graph.graph_def)
    sizes = {str(f.relative_to(path)): f.stat().st_size for f in path.rglob("*") if f.is_file()}
    found = {
        "signatures": {
            name: _signature(one)
            for name, one in sorted(graph.signature_def.items())
            if one.outputs and not name.startswith("__")
        },
        "ops": ops,
        "beyond_core": [op for op in ops if not _is_core(op)],
        "variables": _variables(path),
        "bytes": {**dict(sorted(sizes.items())), "total": sum(sizes.values())},
        "tensorflow": {"written_by": written, "needs": _needs(written)},
        "about": about(path) if (path / "assets.extra" / FILE).is_file() else None,
    }
    return Shown(found, _text(path, found))


def _signature(signature: Any) -> dict:
    def tensors(infos: Any) -> dict:
        return {
            name: {
                "dtype": tf.as_dtype(info.dtype).name,
                "shape": [None if d.size < 0 else d.size for d in info.tensor_shape.dim],
            }
            for name, info in sorted(infos.items())
        }

    inputs = tensors(signature.inputs)
    for name, about_it in inputs.items():
        about_it["optional"] = name in signature.defaults
    return {"inputs": inputs, "outputs": tensors(signature.outputs)}


def _ops(graph: Any) -> dict[str, int]:
    functions = {function.signature.name for function in graph.library.function}
    nodes = [graph.node, *(function.node_def for function in graph.library.function)]
    counts = Counter(node.op for part in nodes for node in part if node.op not in functions)
    return dict(sorted(counts.items()))


def _is_core(op: str) -> bool:
    return op.startswith("_") or hasattr(tf.raw_ops, op)


def _variables(path: Path) -> dict:
    prefix = path / "variables" / "variables"
    if not prefix.with_name("variables.index").is_file():
        return {"count": 0, "numbers": 0, "bytes": {}}
    reader = tf.train.load_checkpoint(str(prefix))
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    numbers = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    numbers = {name: n for name, n in numbers.items() if dtypes[name] != tf.string}
    sizes: Counter = Counter()
    for name, number in numbers.items():
        sizes[dtypes[name].name] += number * dtypes[name].size
    return {"count": len(numbers), "numbers": sum(numbers.values()), "bytes": dict(sizes)}


def _needs(version: str) -> str:
    known = re.match(r"(\d+)\.(\d+)", version)
    return f">={known[1]}.{known[2]},<{int(known[1]) + 1}" if known else "unknown"


def _text(path: Path, found: dict) -> str:
    lines = [f"{path}"]
    for name, signature in found["signatures"].items():
        lines.append(f"signature {name}")
        rows = [
            (
                f"  {way}",
                key,
                info["dtype"],
                tuple(info["shape"]),
                "optional" * info.get("optional", False),
            )
            for way, part in (("in", "inputs"), ("out", "outputs"))
            for key, info in signature[part].items()
        ]
        lines += columns(rows)
    held, tensorflow = found["variables"], found["tensorflow"]
    beyond = ", ".join(found["beyond_core"]) or "none"
    lines += columns(
        [
            ("TensorFlow", f"{tensorflow['needs']} (written by {tensorflow['written_by']})"),
            ("ops", f"{len(found['ops'])} kinds, {sum(found['ops'].values())} in all"),
            ("ops beyond TensorFlow", beyond),
            ("variables", f"{held['numbers']} numbers in {held['count']}: {held['bytes']}"),
            *((f"bytes of {file}", size) for file, size in found["bytes"].items()),
        ]
    )
    return "\n".join(lines)
