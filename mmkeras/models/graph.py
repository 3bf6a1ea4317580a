"""From declared modalities to the inputs and outputs of a Functional model."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from mmkeras import alignment as alignment_family
from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.heads import Head, MultiLabel, Regressor
from mmkeras.heads.decision import deciding
from mmkeras.models import levels
from mmkeras.models.parts import Parts
from mmkeras.objectives import Objective

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def graph(
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any] | None,
    fusion: Any,
    heads: Mapping[str, keras.layers.Layer],
    *,
    alignment: Any = None,
    hidden_dim: int = 64,
    dropout: float = 0.0,
    precision: Mapping[str, str] | None = None,
) -> tuple[dict, dict]:
    """Returns `(inputs, outputs)` for `keras.Model`; see `mmkeras.assemble` for the arguments."""
    names = _check_modalities(modalities)
    encoders = dict(encoders or {})
    for name in encoders:
        if name not in names:
            raise ValueError(f"Unknown modality {name!r} in `encoders`. {nearest(name, names)}")
    _check_heads(heads, names)
    precision = _check_precision(precision, {**encoders, "fusion": fusion}, names)
    with _policy(precision.get("fusion")):
        placed = levels.place(fusion, names, hidden_dim=hidden_dim, dropout=dropout)
        align = alignment_family.get(alignment, names, hidden_dim=hidden_dim, name="alignment")
    _check_read(placed, encoders, align)
    models = {}
    for name in names:
        with _policy(precision.get(name)):
            models[name] = levels.models(
                placed, name, modalities[name], encoders.get(name), hidden_dim
            )
    if "decisions" in placed:
        combine = placed["decisions"].layer.combine
        heads = {
            name: head if isinstance(head, Objective) else deciding(head, combine)
            for name, head in heads.items()
        }
    heads = {name: _named(head, name, names) for name, head in heads.items()}
    inputs = {key: x for name in names for key, x in _inputs(name, models[name]).items()}
    _check_parts([*inputs, *_names(models, heads, align), *levels.layers(placed, names)])
    parts = Parts(modalities, inputs, models, placed, align, heads)
    outputs = parts.outputs
    # The fusion reads the model's own inputs first: an objective may run it again on others, and
    # what a layer was first called with is its `input`.
    if not all(isinstance(head, Objective) for head in heads.values()):
        with _policy(precision.get("fusion")):
            fused = levels.join(placed, parts.read, hidden_dim)
        outputs |= {n: head(fused) for n, head in heads.items() if not isinstance(head, Objective)}
    for name, head in heads.items():
        if isinstance(head, Objective) and head.of is None:
            outputs[name] = head.connect(parts)
    outputs |= {n: head(outputs[head.of]) for n, head in heads.items() if n not in outputs}
    return inputs, {name: outputs[name] for name in heads}


def _inputs(name: str, models: Mapping[str, keras.Model]) -> dict:
    """Returns value and mask as the models of a modality take them."""
    given = next(iter(models.values())).input
    given = {key: given[key] for key in (name, f"{name}_mask")}
    return {k: keras.Input(x.shape[1:], dtype=x.dtype, name=k) for k, x in given.items()}


def _names(models: Mapping, heads: Mapping, align: Any) -> list[str]:
    """Returns the names of encoders, heads and alignment; a function's is its place."""
    named = [*heads.items(), *([("alignment", align)] if align else [])]
    made = [model.name for part in models.values() for model in part.values()]
    return [*made, *(getattr(part, "name", name) for name, part in named)]


def _check_modalities(modalities: Any) -> tuple[str, ...]:
    names = checks.modality_names(modalities)
    for name in names:
        modality = modalities[name] if isinstance(modalities, Mapping) else None
        if not isinstance(modality, Modality):
            raise TypeError(
                f"The modality {name!r} must be a spec such as mk.Image(size=64). "
                f"Received: {modality!r} in {modalities!r}."
            )
    return names


@contextlib.contextmanager
def _policy(name: str | None) -> Iterator[None]:
    """Layers made inside have this dtype policy; the global one when None."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name or before)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_precision(precision: Any, given: Mapping, names: tuple[str, ...]) -> dict:
    """Returns part -> policy, or raises: a known part that is still to be made, a known policy."""
    for part, policy in (precision or {}).items():
        if part not in (*names, "fusion"):
            known = nearest(part, (*names, "fusion"))
            raise ValueError(f"Unknown part {part!r} in `precision`. {known} Heads are float32.")
        checks.one_of(f"precision[{part!r}]", policy, POLICIES)
        made = keras.tree.flatten(given.get(part))
        if any(isinstance(one, keras.layers.Layer) for one in made):
            raise ValueError(
                f"The precision of {part!r} must be set where it is made. Received: a finished "
                f"layer and precision={policy!r}. Make it with `dtype={policy!r}`."
            )
        if policy == "mixed_float16" and keras.config.dtype_policy().name != policy:
            raise ValueError(
                "A part in float16 needs loss scaling, which Keras adds to a model made under the "
                f"policy 'mixed_float16'. Received: precision[{part!r}]='mixed_float16' under "
                f"{keras.config.dtype_policy().name!r}. Call mk.training.precision("
                "'mixed_float16') and make the other parts 'float32', or use 'mixed_bfloat16'."
            )
    return dict(precision or {})


def _check_read(placed: Mapping, encoders: Mapping, align: Any) -> None:
    """Raises where encoders or an alignment are given that no fusion reads."""
    given = sorted(encoders) + (["alignment"] if align is not None else [])
    if set(placed) == {"features"} and given:
        raise ValueError(
            "Fusion at the level 'features' reads raw units, and no encoder or alignment. "
            f"Received: {given}. Leave them out (the size of a unit is given with the fusion: "
            "{'level': 'features', 'raw': {'image': {'patch': 4}}, ...}), or add a fusion that "
            "reads them: fusion=[..., 'late_transformer']."
        )


def _named(head: keras.layers.Layer, name: str, modalities: tuple[str, ...]) -> keras.layers.Layer:
    """Returns the head under its output's name, so that weights and logs carry it."""
    if not isinstance(head, Head | Objective) or head.name == name and head.built:
        return head
    if head.built:
        raise ValueError(
            f"The head {name!r} must be new or have this name: a built layer keeps its name. "
            f"Received: one that is built as {head.name!r}. Rename the output, or make a new head."
        )
    config = {**head.get_config(), "name": name}
    if isinstance(head, Objective):
        if config["modalities"] is None:
            config["modalities"] = modalities
    return type(head).from_config(config)


def _check_parts(parts: list[str]) -> None:
    """Raises unless inputs, encoders, fusion and heads have different names."""
    twice = sorted({part for part in parts if parts.count(part) > 1})
    if twice:
        raise ValueError(
            "The parts of a model must have different names: inputs, encoders, fusion and heads. "
            f"Received twice: {', '.join(twice)}. Rename the modality or the head (or the layer, "
            "if it is one of your own)."
        )


def _check_heads(heads: Any, modalities: tuple[str, ...]) -> None:
    if not isinstance(heads, Mapping) or not heads:
        raise ValueError(
            "`heads` must be a dict of output name -> head, with at least one entry, e.g. "
            f"{{'answer': mk.heads.Classifier(data.classes)}}. Received: {heads!r}."
        )
    for name, head in heads.items():
        checks.identifier("A head's name", name)
        if name in modalities:
            raise ValueError(
                f"The head {name!r} must not have the name of a modality: both name tensors of the "
                "same model. Rename one of the two."
            )
        of = head.of if isinstance(head, Objective) else None
        if of is not None and (of not in heads or isinstance(heads[of], Objective)):
            raise ValueError(
                f"The objective {name!r} must be of a head of the model. Received: of={of!r}. "
                f"{nearest(of, [n for n, h in heads.items() if not isinstance(h, Objective)])}"
            )
        if of is not None and isinstance(heads[of], Regressor | MultiLabel):
            raise ValueError(
                f"The objective {name!r} must be of a head whose classes exclude each other. "
                f"Received: of={of!r}, a {type(heads[of]).__name__}. Name a mk.heads.Classifier, "
                "or let the head learn what the teacher says as its truth."
            )
        if not callable(head) or isinstance(head, type):
            raise TypeError(
                f"The head {name!r} must be a layer such as mk.heads.Classifier(classes). "
                f"Received: {head!r}."
            )
