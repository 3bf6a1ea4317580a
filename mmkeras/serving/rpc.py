"""TensorFlow Serving's gRPC interface through tensorflow-serving-api (the extra `serving`)."""

from collections.abc import Mapping

import numpy as np

from mmkeras.serving.errors import expected, wrong

try:
    import grpc
    import tensorflow as tf
    from google.protobuf import json_format
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        model_pb2,
        predict_pb2,
        prediction_service_pb2_grpc,
    )
except ImportError as error:
    raise ImportError(
        f"gRPC needs the extra `serving`: pip install 'mmkeras[serving]' ({error}). REST needs "
        "nothing: give the client an http:// address."
    ) from error

_KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: "refused",
    grpc.StatusCode.FAILED_PRECONDITION: "refused",
    grpc.StatusCode.OUT_OF_RANGE: "refused",
    grpc.StatusCode.NOT_FOUND: "unknown",
    grpc.StatusCode.UNAVAILABLE: "busy",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "busy",
    grpc.StatusCode.DEADLINE_EXCEEDED: "late",
}


class Rpc:
    """Asks one model over gRPC; threads may share it. The arguments are those of `Rest`."""

    def __init__(self, address: str, model: str, version: int | str | None, timeout: float) -> None:
        sizes = ("grpc.max_send_message_length", "grpc.max_receive_message_length")
        waits = ("initial", "min", "max")  # milliseconds: the client's own tries wait longer
        channel = grpc.insecure_channel(
            address,
            [
                *((name, -1) for name in sizes),
                *((f"grpc.{name}_reconnect_backoff_ms", 100) for name in waits),
            ],
        )
        self._channel = channel
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._address, self._timeout = address, timeout
        self._spec = model_pb2.ModelSpec(name=model)
        if isinstance(version, int):
            self._spec.version.value = version
        elif version is not None:
            self._spec.version_label = version

    def metadata(self) -> dict:
        """Returns the model's metadata in the form of the REST interface."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec, metadata_field=["signature_def"]
        )
        response = self._call(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        plain = json_format.MessageToDict(signatures, preserving_proto_field_name=True)
        return {"metadata": {"signature_def": plain}}

    def predict(
        self, signature: str, tensors: Mapping[str, np.ndarray], outputs: Mapping[str, np.dtype]
    ) -> dict[str, np.ndarray]:
        """Returns the outputs for one batch of all inputs."""
        request = predict_pb2.PredictRequest(model_spec=self._spec)
        request.model_spec.signature_name = signature
        for name, tensor in tensors.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
        answer = expected(self._call(self._stub.Predict, request).outputs, outputs)
        return {name: _array(tf.make_ndarray(answer[name])) for name in outputs}

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def _call(self, method, request):
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            kind = _KINDS.get(error.code(), "broken")
            raise wrong(kind, self._address, error.details() or error.code().name) from error


def _array(values: np.ndarray) -> np.ndarray:
    """Returns strings as `str` where they are UTF-8, else as bytes; numbers as they are."""
    if values.dtype.kind != "O":
        return values
    try:
        texts = [value.decode("utf-8") for value in values.ravel()]
    except UnicodeDecodeError:
        return values
    return np.asarray(texts).reshape(values.shape)
