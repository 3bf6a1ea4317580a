"""A SavedModel in a session, as TF Serving and the C API load it; TensorFlow is all it takes.

Run as a file, `python answer.py MODEL REQUEST.json ANSWER.json SIGNATURE`, it refuses to import
Keras or mmkeras. The session loader is the path of TF Serving and of the C API; Python's object
loader would hide missing variables. Inputs that the request leaves out are filled from
`SignatureDef.defaults`, as TF Serving's predict call does.
"""

import base64
import glob
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

if __name__ == "__main__":
    sys.modules["keras"] = None
    sys.modules["mmkeras"] = None

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

_text = np.vectorize(bytes.decode, otypes=[str])


class Loaded:
    """A SavedModel in a session of its own; used in `with`, or closed by `close`.

    Attributes:
        session, signatures: the session, and name -> `SignatureDef`.

    >>> with Loaded("serving/vqa/1") as model:
    ...     model.ask({"question": ["how many?"]})["answer_label"]
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Loads the folder `path`, and the ops of tensorflow_text where it needs them."""
        try:
            self._load(path)
        except tf.errors.NotFoundError as error:
            if "Op type not registered" not in str(error):
                raise
            _load_text_ops()
            self._load(path)

    def _load(self, path: str | os.PathLike) -> None:
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        load = tf.compat.v1.saved_model.loader.load
        try:
            with self.session.graph.as_default():
                self.signatures = dict(load(self.session, ["serve"], os.fspath(path)).signature_def)
        except BaseException:
            self.session.close()
            raise

    def ask(self, raw: Mapping[str, Any], signature: str = "serving_default") -> dict[str, Any]:
        """Returns output -> array, strings as text.

        Args:
            raw: input -> B items (or one for all rows); inputs may be left out.
            signature: name of one of `signatures`.

        Raises:
            ValueError: the signature has no such input, or one holds values of another type or rows
                of several shapes.
        """
        chosen = self.signatures[signature]
        unknown = sorted(set(raw) - set(chosen.inputs))
        if unknown:
            raise ValueError(
                f"Unknown inputs {unknown}. The signature has {sorted(chosen.inputs)}."
            )
        feed = {
            info.name: _array(name, raw[name], info.dtype)
            if name in raw
            else tf.make_ndarray(chosen.defaults[name])
            for name, info in chosen.inputs.items()
        }
        outputs = {name: info.name for name, info in chosen.outputs.items()}
        answered = self.session.run(outputs, feed)
        return {k: _text(v) if v.dtype == object else v for k, v in answered.items()}

    def close(self) -> None:
        """Ends the session."""
        self.session.close()

    def __enter__(self) -> "Loaded":
        """Returns itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Ends the session."""
        self.close()


def _array(name: str, value: Any, dtype: int) -> np.ndarray:
    """Returns the items of an input as an array of its type."""
    dtype = tf.as_dtype(dtype)
    rule = f"The input {name!r} must hold {dtype.name} items of one shape, a row each. "
    try:
        array = np.asarray(value, dtype.as_numpy_dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{rule}Received: {type(value).__name__}: {error}.") from error
    if dtype == tf.string:
        others = {type(v).__name__ for v in array.flat if not isinstance(v, str | bytes)}
        if others:
            raise ValueError(f"{rule}Received: items of type {sorted(others)}.")
    return array


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


def answer(model: str, request: dict, signature: str = "serving_default") -> dict:
    """Returns the outputs of a signature for a request, as nested lists."""
    with Loaded(model) as loaded:
        outputs = loaded.ask({k: _decoded(v) for k, v in request.items()}, signature)
    return {name: value.tolist() for name, value in outputs.items()}


def main() -> None:
    """Reads the request, writes the answer."""
    model, request, out, signature = sys.argv[1:]
    with open(request, encoding="utf-8") as file:
        inputs = json.load(file)
    result = answer(model, inputs, signature)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
