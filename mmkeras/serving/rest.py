"""TensorFlow Serving's REST interface with the standard library; connections are kept alive."""

import base64
import http.client
import json
import ssl
import threading
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from mmkeras.serving.errors import expected, wrong

_KINDS = {
    400: "refused",
    413: "refused",  # too large: smaller parts may do
    404: "unknown",
    429: "busy",
    502: "busy",
    503: "busy",
    504: "late",
}


class Rest:
    """Asks one model over REST; threads may share it.

    Args:
        url: "http://host:8501" or "https://...", a path in front of /v1 included.
        model: name of the model.
        version: a number, a label of the server's configuration, or None for the latest.
        timeout: seconds until a connection, and every wait for bytes, counts as late.
    """

    def __init__(self, url: str, model: str, version: int | str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.username is not None or _port(parts) == 0:
            raise ValueError(
                "`url` must be http://host:port or https://host:port, a path behind it at most. "
                f"Received: {url!r}."
            )
        secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._host, self._timeout = parts.netloc, timeout
        self._path = f"{parts.path.rstrip('/')}/v1/models/{quote(model, safe='')}"
        if version is not None:
            part = "versions" if isinstance(version, int) else "labels"
            self._path += f"/{part}/{quote(str(version), safe='')}"
        self._held = threading.local()
        # Of threads that have ended, connections are closed with them.
        self._lock, self._opened = threading.Lock(), weakref.WeakSet()

    def metadata(self) -> dict:
        """Returns the model's metadata, as `signature.signature` reads them."""
        return self._ask("GET", "/metadata", None)

    def predict(
        self, signature: str, tensors: Mapping[str, np.ndarray], outputs: Mapping[str, np.dtype]
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for one batch of all inputs, in the columnar format."""
        inputs = {
            name: _plain(tensor.tolist()) if tensor.dtype.kind == "O" else tensor.tolist()
            for name, tensor in tensors.items()
        }
        body = json.dumps({"signature_name": signature, "inputs": inputs})
        answer = self._ask("POST", ":predict", body.encode("ascii"))["outputs"]
        if not isinstance(answer, dict):  # the name of an only output is left out
            answer = {name: answer for name in outputs} if len(outputs) == 1 else {}
        answer = expected(answer, outputs)
        return {name: _array(answer[name], dtype) for name, dtype in outputs.items()}

    def close(self) -> None:
        """Ends the connections of all threads."""
        with self._lock:
            opened, self._opened = list(self._opened), weakref.WeakSet()
        self._held = threading.local()
        for connection in opened:
            connection.close()

    def _ask(self, method: str, path: str, body: bytes | None) -> dict:
        where = f"{self._host}{self._path}{path}"
        try:
            status, content = self._send(method, self._path + path, body)
        except ssl.SSLCertVerificationError as error:
            raise wrong("broken", where, f"a certificate that is not trusted: {error}") from error
        except TimeoutError as error:
            raise wrong("late", where, "no answer in time") from error
        except (OSError, http.client.HTTPException) as error:
            raise wrong("busy", where, f"{type(error).__name__}: {error}") from error
        try:
            answer = json.loads(content)
        except ValueError as error:
            text = f"{status} and no JSON: {content[:200]!r}"
            raise wrong(_KINDS.get(status, "broken"), where, text) from error
        if status != 200:
            raise wrong(_KINDS.get(status, "broken"), where, str(answer.get("error", answer)))
        return answer

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Sends over the thread's connection; one that the server has closed is opened again."""
        while True:
            connection = getattr(self._held, "connection", None)
            fresh = connection is None
            if fresh:
                connection = self._connect(self._host, timeout=self._timeout)
                self._held.connection = connection
                with self._lock:
                    self._opened.add(connection)
            try:
                connection.request(method, path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._held.connection = None
                with self._lock:
                    self._opened.discard(connection)
                if fresh or isinstance(error, TimeoutError):
                    raise


def _port(parts: Any) -> int | None:
    try:
        return parts.port
    except ValueError:
        return 0


def _plain(values: Any) -> Any:
    """Returns nested lists with bytes as {"b64": ...}."""
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return {"b64": base64.b64encode(values).decode("ascii")}


def _array(values: Any, dtype: np.dtype) -> np.ndarray:
    """Returns nested lists as an array; strings as `str`, {"b64": ...} as bytes."""
    if dtype.kind != "O":
        return np.asarray(values, dtype)
    return np.asarray(_texts(values))


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    return base64.b64decode(values["b64"]) if isinstance(values, dict) else values
