"""How much each modality of a request contributes to the answer."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras.export.answers import answers, scores
from mmkeras.fusion import HybridFusion
from mmkeras.heads import Classifier, Decision, MultiLabel, Regressor, head_of

EXPLAINED = (Classifier, MultiLabel, Regressor)
ADDITIVE = ("mean", "vote")
"""How decisions may be combined so that the score is a sum over the modalities."""


def explainer(
    model: keras.Model, names: Sequence[str], top_k: int
) -> Callable[[dict], dict] | None:
    """Returns inputs -> contributions, or None for a model without heads that can be explained.

    Let s(S) be the scores of a head when of the present modalities P only those in S are there
    (softmax of a Classifier, sigmoid of a MultiLabel, the numbers of a Regressor).

    `<head>_contribution`: c_m = s(P) - s(P without m), by how much the score falls when m is
    masked; exactly 0 where m is absent. (B, M) of a Classifier, for the class that is answered;
    (B, M, K) of the others, for all K classes or numbers. It is what the modality adds to the
    others: two that say the same may both have 0, and the c_m need not add up to the score.

    `<head>_part`, only of decisions that are averaged or voted (fusion "late_averaging" and
    "voting", no hybrid), where it is exact: s({m}) / |P|, 0 where m is absent. Their sum is s(P).

    `present`: bool (B, M). The modalities stand in declared order. Besides, what
    `mmkeras.export.answers` says of s(P).

    Cost: 1 + M forward passes, 1 + 2 M with parts, in one batch of as many times B rows.
    """
    heads = {name: head_of(model, name) for name in model.output_names}
    heads = {name: head for name, head in heads.items() if isinstance(head, EXPLAINED)}
    if not heads:
        return None
    added = _additive(model)
    kept = _variants(len(names), bool(added))

    def explain(x: dict[str, Any]) -> dict[str, Any]:
        masks = {name: x[f"{name}_mask"] for name in names}
        present = [tf.reduce_any(tf.reshape(m, [tf.shape(m)[0], -1]), 1) for m in masks.values()]
        present = tf.stack(present, axis=1)  # (B, M)
        said = model(_repeated(x, names, kept), training=False)
        said = {name: tf.stack(tf.split(value, len(kept))) for name, value in said.items()}
        out = answers(model, {name: said[name][0] for name in heads}, top_k)
        out = {"present": present, **out}
        for name, head in heads.items():
            score = tf.transpose(scores(head, said[name]), [1, 0, 2])  # (B, V, K)
            without, alone = score[:, 1 : len(names) + 1], score[:, len(names) + 1 :]
            found = {"contribution": score[:, :1] - without}
            if name in added:
                count = tf.reduce_sum(tf.cast(present, tf.float32), 1)
                found["part"] = alone / tf.maximum(count, 1.0)[:, None, None]
            for what, value in found.items():
                value = tf.where(present[:, :, None], value, 0.0)
                if isinstance(head, Classifier):
                    best = tf.argmax(said[name][0], axis=1)
                    value = tf.gather(value, best, axis=2, batch_dims=1)
                out[f"{name}_{what}"] = value
        return out

    return explain


def _additive(model: keras.Model) -> set[str]:
    """Names of the heads whose score is the mean of what each modality alone says."""
    if any(isinstance(layer, HybridFusion) for layer in model.layers):
        return set()  # the fused vector decides too
    decisions = [layer for layer in model.layers if isinstance(layer, Decision)]
    return {layer.name for layer in decisions if layer.combine in ADDITIVE}


def _variants(count: int, alone: bool) -> np.ndarray:
    """Bool (V, M), which modalities are kept: all, all but each, and each alone."""
    each = np.eye(count, dtype=bool)
    return np.concatenate([np.ones((1, count), bool), ~each, *([each] if alone else [])])


def _repeated(x: dict[str, Any], names: Sequence[str], kept: np.ndarray) -> dict[str, Any]:
    """The batch V times, one variant of the masks after the other."""
    made = {}
    for place, name in enumerate(names):
        value, mask = x[name], x[f"{name}_mask"]
        made[name] = tf.concat([value] * len(kept), axis=0)
        made[f"{name}_mask"] = tf.concat([mask & keep for keep in kept[:, place]], axis=0)
    return made
