"""What heads predict, as a client reads it: scores, names of classes, the likeliest of them."""

from typing import Any

import keras
import tensorflow as tf

from mmkeras.heads import Classifier, MultiLabel, Regressor, head_of
from mmkeras.objectives import Contrastive, Objective


def served(model: keras.Model) -> keras.Model:
    """Returns the model without the outputs that only a training reads.

    These are the objectives but `Contrastive`, whose output are embeddings: their losses are no
    answers, and some depend on the other rows of a batch.

    Raises:
        ValueError: nothing is left.
    """
    heads = {name: head_of(model, name) for name in model.output_names}
    trained = [
        name
        for name, head in heads.items()
        if isinstance(head, Objective) and not isinstance(head, Contrastive)
    ]
    if len(trained) == len(heads):
        raise ValueError(
            "A model that is served must have a head or a contrastive objective. Received: "
            f"{trained}, whose outputs are losses. Give assemble a head of mk.heads beside them, "
            "or take an encoder out with mk.encoders.of(model, name) for a model that has one."
        )
    if not trained:
        return model
    outputs = {name: value for name, value in model.output.items() if name not in trained}
    return keras.Model(model.input, outputs, name=model.name)


def scores(head: Any, value: Any) -> Any:
    """Returns the scores of a head's output: probabilities; a Regressor's numbers; else None."""
    if isinstance(head, Classifier):
        return tf.nn.softmax(value)
    if isinstance(head, MultiLabel):
        return tf.sigmoid(value)
    return value if isinstance(head, Regressor) else None


def answers(model: keras.Model, predictions: dict, top_k: int) -> dict:
    """Returns the outputs of `serving_default`; see `saved_model`."""
    out = dict(predictions)
    for name, value in predictions.items():
        head = head_of(model, name)
        if not isinstance(head, Classifier | MultiLabel):
            continue
        classes, score = tf.constant(head.classes), scores(head, value)
        best, place = tf.math.top_k(score, min(top_k, len(head.classes)))
        told = {"scores": score, "top_scores": best, "top_labels": tf.gather(classes, place)}
        if isinstance(head, Classifier):
            told["label"] = tf.gather(classes, tf.argmax(value, axis=1))
        else:
            told["labels"] = tf.where(value > 0.0, classes[None], "")
        for what, part in told.items():
            if f"{name}_{what}" in out:
                raise ValueError(
                    f"The head {name!r} answers with an output of the name {name}_{what!s}, which "
                    "is that of another head. Rename one of them."
                )
            out[f"{name}_{what}"] = part
    return out
