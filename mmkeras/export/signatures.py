"""The signatures of an export, each a function from a request to named outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.export.answers import answers, served
from mmkeras.export.embed import embedder
from mmkeras.export.explain import explainer
from mmkeras.export.inputs import Input, checked, decoded_inputs, raw_inputs, read, repeated

BAD = "bad_input"
Signature = tuple[Callable[[dict], dict], dict[str, Input]]


def signatures(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    decoders: Mapping[str, tf.Module],
    top_k: int,
    jit: bool = False,
) -> dict[str, Signature]:
    """Returns name -> (function, inputs) of every signature that the model has.

    See `mmkeras.export.saved_model`.
    """
    model = served(model)

    def predict(x: dict) -> dict:
        return model(x, training=False)

    if jit:
        predict = tf.function(predict, autograph=False, jit_compile=True)

    def answer(x: dict) -> dict:
        return answers(model, predict(x), top_k)

    def of_raw(function: Callable[[dict], dict]) -> Signature:
        def serve(raw: dict[str, Any]) -> dict[str, Any]:
            x, bad = read(decoders, raw)
            return {**function(x), BAD: bad}

        return serve, raw_inputs(modalities)

    def of_tensors(x: dict[str, Any]) -> dict[str, Any]:
        x, bad = checked(modalities, repeated(x))
        return {**answer(x), BAD: bad}

    made = {
        "serving_default": of_raw(answer),
        "decoded": (of_tensors, decoded_inputs(modalities)),
    }
    more = {
        "embed": embedder(model),
        "explain": explainer(model, tuple(modalities), top_k),
    }
    return made | {name: of_raw(f) for name, f in more.items() if f is not None}
