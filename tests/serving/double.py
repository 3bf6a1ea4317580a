"""Speaks TensorFlow Serving's REST and gRPC protocols by running the SavedModel in a session.

For tests of clients only. What it refuses, the server refuses, in the same words: an input that a
REST request does not name, a value of another type, lists that are not regular.
"""

import base64
import json
import re
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.session_loader import Loaded

PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")


class Model:
    """The latest version under a folder, as the server loads it."""

    def __init__(self, base):
        self.version = max(int(p.name) for p in base.iterdir() if p.name.isdecimal())
        self.name = base.name
        loaded = Loaded(base / str(self.version))
        self.session, self.signatures = loaded.session, loaded.signatures

    def run(self, name, tensors):
        """Input -> array to output -> array; what is missing is filled in (predict_util.cc)."""
        held = self.signatures[name]
        missing = set(held.inputs) - set(tensors)
        if set(tensors) - set(held.inputs) or (missing and not held.defaults):
            raise ValueError("input size does not match signature")
        defaults = {n: tf.make_ndarray(held.defaults[n]) for n in missing}
        feed = {held.inputs[n].name: v for n, v in {**tensors, **defaults}.items()}
        fetch = {n: info.name for n, info in held.outputs.items()}
        return self.session.run(fetch, feed)

    def metadata(self):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, held in self.signatures.items():
            signatures.signature_def[name].CopyFrom(held)
        return signatures


def tensor(value, dtype):
    """JSON -> array, as strict as json_tensor.cc."""

    def shape(part):
        return (len(part), *(shape(part[0]) if part else ())) if isinstance(part, list) else ()

    def leaf(part):
        if dtype == tf.string:
            if isinstance(part, dict) and list(part) == ["b64"]:
                return base64.b64decode(part["b64"], validate=True)
            if isinstance(part, str):
                return part.encode("utf-8")
        elif isinstance(part, bool if dtype == tf.bool else int | float):
            return part
        raise ValueError(f"JSON Value: {part!r} is not of expected type: {dtype.name}")

    def fill(part, sizes):
        if not sizes:
            return leaf(part)
        if not isinstance(part, list) or len(part) != sizes[0]:
            raise ValueError(f"Encountered list at unexpected size, expected size: {sizes[0]}")
        return [fill(one, sizes[1:]) for one in part]

    sizes = shape(value)
    return np.array(fill(value, sizes), dtype.as_numpy_dtype).reshape(sizes)


def plain(array, name):
    """Array -> JSON; strings as text, or as base64 where the name ends in _bytes."""
    if array.dtype != object:
        return array.tolist()
    if array.ndim:
        return [plain(np.asarray(part, object), name) for part in array]
    text = array.item()
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(text).decode("ascii")}
    return text.decode("utf-8")


def columns(request, held):
    """The tensors of a request in row or columnar format."""
    rows, inputs = request.get("instances"), request.get("inputs")
    if rows is not None:
        for number, row in enumerate(rows):
            if set(row) != set(held.inputs):
                keys = ",".join(sorted(held.inputs))
                raise ValueError(
                    f"Failed to process element: {number} of 'instances' list. JSON object: "
                    f"{row} keys must be equal to: {keys}"
                )
        inputs = {name: [row[name] for row in rows] for name in held.inputs}
    if inputs is None:
        raise ValueError("Missing 'inputs' or 'instances' key")
    tensors = {}
    for name, info in held.inputs.items():
        if name not in inputs:
            raise ValueError(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = tensor(inputs[name], tf.as_dtype(info.dtype))
    return tensors


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body):
        self.server.asked.append(self.path)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if fault == "drop":
            self.close_connection = True
            return
        if fault == "late":
            time.sleep(0.6)
        if isinstance(fault, int):
            return self.send(fault, {"error": "told to fail"})
        try:
            return self.send(200, self.content(body))
        except LookupError as error:
            return self.send(404, {"error": str(error)})
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            return self.send(400, {"error": str(error)})

    def content(self, body):
        model = self.server.model
        match = PATH.fullmatch(self.path)
        if match is None:
            raise ValueError(f"Malformed request: {self.command} {self.path}")
        name, version, what = match.groups()
        if name != model.name or version not in (None, str(model.version)):
            raise LookupError(f"Servable not found for request: {name}")
        if what == "/metadata":
            shown = json_format.MessageToDict(
                model.metadata(),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            return {"model_spec": {"name": name}, "metadata": {"signature_def": shown}}
        request = json.loads(body)
        chosen = request.get("signature_name") or "serving_default"
        if chosen not in model.signatures:
            raise ValueError(f'Serving signature name: "{chosen}" not found in signature def')
        outputs = model.run(chosen, columns(request, model.signatures[chosen]))
        shown = {n: plain(value, n) for n, value in outputs.items()}
        if "instances" in request:
            count = len(request["instances"])
            return {"predictions": [{n: v[i] for n, v in shown.items()} for i in range(count)]}
        return {"outputs": shown if len(shown) > 1 else next(iter(shown.values()))}

    def send(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Rest(ThreadingHTTPServer):
    """Listens in a thread; `faults` are done to the next requests, `asked` holds their paths."""

    daemon_threads = True

    def __init__(self, model):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.faults, self.asked = model, [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class Rpc(prediction_service_pb2_grpc.PredictionServiceServicer):
    """The same over gRPC."""

    def __init__(self, model, port=0):
        self.model = model
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, self.server)
        self.url = f"grpc://127.0.0.1:{self.server.add_insecure_port(f'127.0.0.1:{port}')}"
        self.server.start()

    def check(self, spec, context):
        if spec.name != self.model.name:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {spec.name}")

    def GetModelMetadata(self, request, context):
        self.check(request.model_spec, context)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.metadata["signature_def"].Pack(self.model.metadata())
        return response

    def Predict(self, request, context):
        self.check(request.model_spec, context)
        tensors = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        try:
            outputs = self.model.run(request.model_spec.signature_name, tensors)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response
