"""Answers one request from a SavedModel through the session loader, as TF Serving does.

Run as a file, `python answer.py MODEL REQUEST.json ANSWER.json`, it refuses to import Keras or
mmkeras and needs TensorFlow alone. The session loader is the path of TF Serving and of the C
API; Python's object loader would hide missing variables. Inputs that the request leaves out are
filled from `SignatureDef.defaults`, as TF Serving's predict call does.
"""

import base64
import glob
import json
import os
import sys
from typing import Any

if __name__ == "__main__":
    sys.modules["keras"] = None
    sys.modules["mmkeras"] = None

import tensorflow as tf  # noqa: E402


def _load_text_ops() -> None:
    """Loads the op libraries of tensorflow_text without importing it (it would import Keras)."""
    for place in sys.path:
        for library in sorted(
            glob.glob(os.path.join(place, "tensorflow_text", "**", "*.so"), recursive=True)
        ):
            try:
                tf.load_op_library(library)
            except (tf.errors.OpError, RuntimeError) as error:
                print(f"{library}: {error}", file=sys.stderr)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    if value.dtype == object:
        return [v.decode("utf-8") for v in value.ravel()]
    return value.tolist()


def answer(model: str, request: dict) -> dict:
    """Returns the outputs of `serving_default` for a request, as nested lists."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.loader.load(session, ["serve"], model)
        signature = loaded.signature_def["serving_default"]
        unknown = sorted(set(request) - set(signature.inputs))
        if unknown:
            raise ValueError(
                f"Unknown inputs {unknown}. The signature has {sorted(signature.inputs)}."
            )
        feed = {}
        for name, info in signature.inputs.items():
            if name in request:
                feed[info.name] = _decoded(request[name])
            else:
                feed[info.name] = tf.make_ndarray(signature.defaults[name])
        outputs = {name: info.name for name, info in signature.outputs.items()}
        return {name: _plain(value) for name, value in session.run(outputs, feed).items()}


def main() -> None:
    """Reads the request, writes the answer."""
    model, request, out = sys.argv[1:]
    with open(request, encoding="utf-8") as file:
        inputs = json.load(file)
    try:
        result = answer(model, inputs)
    except tf.errors.NotFoundError as error:
        if "Op type not registered" not in str(error):
            raise
        _load_text_ops()
        result = answer(model, inputs)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
