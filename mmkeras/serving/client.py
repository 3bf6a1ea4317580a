"""The client of a model behind TensorFlow Serving."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmkeras.serving.errors import Outdated, Refused
from mmkeras.serving.items import column
from mmkeras.serving.rest import Rest
from mmkeras.serving.signature import Signature, signature

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0  # seconds before the first further try, and at most


class Client:
    """Asks one model; inputs and types are learnt from the server's metadata.

    Threads may share a client. `close` ends its connections, and so does `with`.

    >>> client = mk.serving.Client("http://localhost:8501", "vqa")
    >>> client.predict({"image": [Path("a.jpg"), None], "question": ["how many?", "any red?"]})

    What is not given is sent as the default that the signature states for it (an empty string,
    NaN), once per row. It cannot be left out of the request: TensorFlow Serving fills in defaults
    over gRPC alone, its REST interface refuses a request that does not name every input ("Missing
    named input", `tensorflow_serving/util/json_tensor.cc`), and with `--enable_batching` all inputs
    of a request must hold as many rows, which a default of one row does not
    (`tensorflow_serving/batching/batching_util.h`).

    Args:
        url: "http://host:8501" or "https://..." (REST), "grpc://host:8500" (gRPC, the extra
            `serving`, not encrypted).
        model: name of the model.
        version: a number, a label of the server's configuration, or None for the latest.
        signature_name: which signature to ask.
        timeout: seconds that a try waits, over REST for every part of the answer.
        retries: further tries when the server cannot be reached, is busy or late, after 0.1, 0.2,
            0.4, ... seconds, each times a random 0.5 to 1.5.
        batch_size: largest number of rows in one request; more are sent in several. A server that
            refuses so many together, and takes them in smaller parts, lowers it.

    Raises:
        ValueError: the URL has another scheme.
        ImportError: gRPC without its extra.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        version: int | str | None = None,
        signature_name: str = "serving_default",
        timeout: float = 10.0,
        retries: int = 3,
        batch_size: int = 64,
    ) -> None:
        if batch_size < 1 or retries < 0 or not timeout > 0:
            raise ValueError(
                "`batch_size` must be >= 1, `retries` >= 0 and `timeout` > 0. Received: "
                f"batch_size={batch_size}, retries={retries}, timeout={timeout}."
            )
        self._server = _transport(url, model, version, timeout)
        self._name, self._retries, self._batch_size = signature_name, retries, batch_size
        self._signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        """Inputs (dtype, shape, default) and outputs, as the server tells them."""
        held = self._signature
        if held is None:
            held = signature(self._retried(self._server.metadata), self._name)
            self._signature = held
        return held

    def close(self) -> None:
        """Ends the connections; a later question opens new ones (gRPC: raises ValueError)."""
        self._server.close()

    def __enter__(self) -> "Client":
        """Returns itself."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Ends the connections."""
        self.close()

    def wait(self, seconds: float = 60.0) -> None:
        """Returns when the model is served; after `seconds` raises what kept it."""
        end = time.monotonic() + seconds
        while True:
            try:
                self._server.metadata()
                return
            except (LookupError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
        """Returns output name -> array of B rows.

        Where the server has got a version with other inputs or outputs, all rows are asked once
        more by its metadata. Rows in several requests may else be answered by two versions of the
        same names while the server changes them; `version` prevents it.

        Args:
            inputs: input name -> B rows; whole inputs may be missing, and rows may be None. What a
                row may be is told in `mmkeras.serving.items.column`.

        Raises:
            ValueError, TypeError, OSError: an item cannot be sent, or the server refuses it; the
                text names input and row. A batch that is refused is asked again in halves until
                they are accepted, or the row is found.
            LookupError: the server has no such model or version.
            ConnectionError, TimeoutError: no answer after all tries.
            RuntimeError: an error inside the server, or outputs that its metadata does not know.
        """
        held = self.signature
        if not set(inputs) <= set(held.inputs):
            held = self._read_again()
        try:
            return self._predict(inputs, held)
        except Outdated:
            return self._predict(inputs, self._read_again())

    def _predict(self, inputs: Mapping[str, Sequence[Any]], held: Signature) -> dict:
        count = _count(inputs, held.inputs)
        tensors = {
            name: column(name, spec, inputs.get(name), count) for name, spec in held.inputs.items()
        }
        answers, start, size, again = [], 0, self._batch_size, None
        while start < count:
            part = _rows(tensors, start, min(start + size, count))
            try:
                answers.append(self._ask(part, held))
                start += size
            except Refused as error:
                again = again or self._read_again()
                if set(again.inputs) != set(held.inputs):
                    raise Outdated(str(error)) from error
                size = min(size, count - start)
                if size == 1:
                    raise ValueError(f"{self._blame(part, held, start)}: {error}") from error
                size = (size + 1) // 2
        self._batch_size = min(self._batch_size, size)
        return {name: np.concatenate([a[name] for a in answers]) for name in held.outputs}

    def _read_again(self) -> Signature:
        """The server may have got another version meanwhile."""
        self._signature = None
        return self.signature

    def _ask(self, tensors: Mapping[str, np.ndarray], held: Signature) -> dict[str, np.ndarray]:
        return self._retried(lambda: self._server.predict(self._name, tensors, held.outputs))

    def _blame(self, row: dict, held: Signature, place: int) -> str:
        """Returns which row the server refuses, and which input of it where the server tells."""
        try:
            for name, spec in held.inputs.items():
                if spec.default is not None:
                    without = {**row, name: column(name, spec, None, 1)}
                    if not self._refuses(without, held):
                        return f"Input {name!r}, row {place}"
        except (ConnectionError, TimeoutError):
            pass  # the refusal is what there is to tell
        return f"Row {place}"

    def _refuses(self, tensors: dict, held: Signature) -> bool:
        try:
            self._ask(tensors, held)
        except Refused:
            return True
        return False

    def _retried(self, ask: Callable[[], Any]) -> Any:
        for attempt in range(self._retries + 1):
            try:
                return ask()
            except (ConnectionError, TimeoutError):
                if attempt == self._retries:
                    raise
                wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
                time.sleep(wait * random.uniform(0.5, 1.5))


def _count(inputs: Mapping[str, Sequence[Any]], known: Mapping[str, Any]) -> int:
    unknown = sorted(set(inputs) - set(known))
    if unknown:
        raise ValueError(
            f"The model takes the inputs {', '.join(known)}. Received: {', '.join(unknown)}."
        )
    counts = {}
    for name, rows in inputs.items():
        if isinstance(rows, str | bytes) or not hasattr(rows, "__len__"):
            raise TypeError(
                f"Input {name!r} must be a list of rows. Received: {type(rows).__name__}. "
                f"Write {{{name!r}: [...]}}, for one row too."
            )
        counts[name] = len(rows)
    if len(set(counts.values())) != 1 or not all(counts.values()):
        raise ValueError(
            f"Inputs must hold the same number of rows, at least one. Received: {counts}. "
            "Write None for a row that has no such item."
        )
    return next(iter(counts.values()))


def _rows(tensors: Mapping[str, np.ndarray], start: int, end: int) -> dict[str, np.ndarray]:
    return {name: tensor[start:end] for name, tensor in tensors.items()}


def _transport(url: str, model: str, version: int | str | None, timeout: float) -> Any:
    scheme, _, address = url.partition("://")
    if scheme in ("http", "https"):
        return Rest(url, model, version, timeout)
    if scheme == "grpc":
        from mmkeras.serving.rpc import Rpc

        return Rpc(address, model, version, timeout)
    raise ValueError(
        f"`url` must begin with http://, https:// or grpc://. Received: {url!r}. REST is on port "
        "8501 and gRPC on 8500, unless the server was told otherwise."
    )
