"""Zero-shot classification: classes that are told in words, and never shown."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from mmkeras.core import Modality, Text, checks
from mmkeras.data import decoder
from mmkeras.evaluation.embeddings import embed
from mmkeras.heads import Classifier
from mmkeras.models import objective_of, tower

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "<pad>", "</s>", "<unk>", "<mask>")
"""What stands in vocabularies and is no word."""

Classes = Sequence[str] | Mapping[str, Sequence[str]]


def described(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    classes: Classes,
    templates: Sequence[str] = ("{}",),
    *,
    text: str | None = None,
    output: str | None = None,
) -> np.ndarray:
    """Returns the classes as vectors of the common space, (C, D) float32, of unit length.

    Each is the mean of the embeddings of its sentences, as CLIP's zero-shot classifier has it
    (Radford et al. 2021, arXiv 2103.00020, 3.1.4). A sentence without a known word is left out.

    Args:
        model: with a `mk.objectives.Contrastive`, e.g. `mk.models.clip`.
        modalities: the adapted specs that it was trained with (`data.modalities`).
        classes: names as they stand in the sentences, or name -> several such wordings.
        templates: sentences with `{}` where the class stands.
        text: the modality that is told; the only `mk.Text` of the objective when None.
        output: name of the objective; the only one when None.

    Raises:
        ValueError: a template without a place, no single text, or a class none of whose sentences
            has a known word.
    """
    text = text or _text(model, modalities, output)
    for template in templates:
        if "{}" not in template:
            raise ValueError(
                f"A template must hold {{}} where the class stands. Received: {template!r}, "
                "instead of e.g. 'a picture of {}'."
            )
    wordings = classes if isinstance(classes, Mapping) else {str(c): [str(c)] for c in classes}
    sentences = {
        name: [template.replace("{}", word) for word in words for template in templates]
        for name, words in wordings.items()
    }
    every = [sentence for own in sentences.values() for sentence in own]
    found = embed(model, modalities, {text: every}, output=output)[text]
    found[~_known(modalities[text], every)] = 0.0
    ends = np.cumsum([len(own) for own in sentences.values()])[:-1]
    means = np.stack([part.sum(axis=0) for part in np.split(found, ends)])
    length = np.linalg.norm(means, axis=1, keepdims=True)
    if not length.all():
        empty = [name for name, n in zip(sentences, length, strict=True) if not n]
        raise ValueError(
            f"Every class needs a sentence with a word in it. Received none for {empty}."
        )
    return means / length


def _known(text: Text, sentences: Sequence[str]) -> np.ndarray:
    """(N,) whether a sentence has a token that is neither special nor unknown."""
    ids, mask = (np.asarray(x) for x in decoder(text)(np.array([s.encode() for s in sentences])))
    other = [text.vocabulary.index(token) for token in SPECIAL if token in text.vocabulary]
    return (mask & ~np.isin(ids, other)).any(axis=1)


def zero_shot(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    classes: Classes,
    templates: Sequence[str] = ("{}",),
    *,
    of: str | None = None,
    head: str = "label",
    text: str | None = None,
    output: str | None = None,
) -> keras.Model:
    """Returns a classifier of one modality, whose weights are the classes' descriptions.

    Its logits are scale e . v_c, with the embedding e of a sample, the vectors v_c of `described`
    and the model's inverse temperature. It answers, and is exported, as any model with a
    `mk.heads.Classifier`:

        zero = zero_shot(model, data.modalities, ["cat", "dog"], ["a photo of a {}"], of="image")
        mk.export.saved_model(zero, {"image": data.modalities["image"]}, "serving/zero/1")

    The tower is the model's own and not a copy: further training of one changes both.

    Args:
        model, modalities, classes, templates, text, output: of `described`.
        of: the modality that is classified; the other one of two when None.
        head: name of the output.
    """
    vectors = described(model, modalities, classes, templates, text=text, output=output)
    objective = objective_of(model, output)
    if of is None:
        text = text or _text(model, modalities, output)
        others = [name for name in objective.modalities if name != text]
        if len(others) > 1:
            raise ValueError(f"`of` must name the modality to classify, one of {others}.")
        of = others[0]
    part = tower(model, of, output)
    layer = Classifier(list(classes), name=checks.identifier("head", head))
    outputs = {head: layer({"pooled": part.output["embedding"]})}
    scale = 1.0 if objective.loss == "triplet" else float(objective.inverse_temperature())
    layer.dense.set_weights([scale * vectors.T, np.zeros(len(vectors), "float32")])
    return type(model)(part.input, outputs, name=f"{of}_zero_shot")


def accuracy(model: keras.Model, dataset: Iterable, head: str, k: int = 1) -> float:
    """Returns the share of samples whose true class is among the k largest logits.

    Of classes with equal logits the wrong ones stand first, and so they do where a logit is not a
    number. A sample all of whose modalities are absent is not counted, nor is one without a label
    (`mk.Label(optional=True)`). One batch is held at a time.

    Args:
        model: with a `mk.heads.Classifier` named `head`, e.g. of `zero_shot`.
        dataset: batches `(x, y)` or `(x, y, weights)` with `y[head]` int (B,), such as
            `data.valid(256)`; it may hold modalities that the model does not take. Weights are
            not read.
        head: name of the output and of the target.
        k: how many classes may be named.

    Raises:
        ValueError: no sample is there.
    """
    k, right, total = checks.whole("k", k), 0, 0
    for batch in dataset:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        x = {name: np.asarray(x[name]) for name in model.input}
        there = _present(x) & np.asarray(y.get(f"{head}_mask", True), bool)
        logits = np.asarray(model.predict_on_batch(x)[head])[there]
        true = np.take_along_axis(logits, np.asarray(y[head])[there, None], axis=1)
        rank = (~(logits < true)).sum(axis=1)
        right, total = right + int((rank <= k).sum()), total + len(rank)
    if not total:
        raise ValueError("Accuracy needs a sample that is there. Received: none.")
    return right / total


def _present(x: Mapping[str, np.ndarray]) -> np.ndarray:
    """(B,) whether any modality of a row is there."""
    masks = [mask for name, mask in x.items() if name.endswith("_mask")]
    return np.stack([mask.reshape(len(mask), -1).any(axis=1) for mask in masks]).any(axis=0)


def _text(model: keras.Model, modalities: Mapping[str, Modality], output: str | None) -> str:
    """Returns the only text that the objective embeds."""
    names = [
        name
        for name in objective_of(model, output).modalities
        if name in modalities and modalities[name].kind == "text"
    ]
    if len(names) != 1:
        raise ValueError(
            "Classes are told in one text. Received: a model that embeds the texts "
            f"{names}. Name the one as `text`."
        )
    return names[0]
