"""The level at which a fusion reads: raw features, tokens, pooled vectors, decisions; or several.

- features: early; the raw units of every modality, each projected once (`mk.encoders.raw`)
- tokens: what the encoders return, as it is
- pooled: what the encoders return, averaged: one token per modality, true where it is there
- decisions: late; each modality by itself, for fusions whose heads combine what they decide
- a list: hybrid; a fusion at each of several levels, joined by `mk.fusion.HybridFusion`
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from mmkeras import encoders
from mmkeras import fusion as family
from mmkeras.core import Modality, checks
from mmkeras.core.identifiers import nearest
from mmkeras.fusion.decisions import DecisionFusion
from mmkeras.fusion.hybrid import LEVELS, HybridFusion
from mmkeras.layers import MeanToken


class Placed(NamedTuple):
    """A fusion layer, and the sizes of the raw units that it reads, by modality."""

    layer: Any
    raw: Mapping[str, Mapping[str, Any]]


def place(fusion: Any, names: Sequence[str], **defaults: Any) -> dict[str, Placed]:
    """Returns the fusion at each level, in the order of `LEVELS`.

    Args:
        fusion: as of `mk.fusion.get`, or a list of such; a dict may hold, beside `name` (also a
            layer) and the fusion's arguments, `level`, and at "features" `raw`: modality -> sizes
            of `mk.encoders.raw`.
        names: of the modalities.
        **defaults: of a fusion's arguments.

    Raises:
        ValueError: no such level, two fusions at one, or one that cannot stand there.
    """
    entries = list(fusion) if isinstance(fusion, list | tuple) else [fusion]
    read = [_read(entry, names) for entry in entries]
    levels = [level for _, level, _ in read]
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(
            "A list of fusions must hold one for each of its levels. Received: fusions at "
            f"{levels}. Give one of them another level, e.g. {{'name': 'concatenation', 'level': "
            f"'pooled'}}, of {LEVELS}."
        )
    found = {}
    for identifier, level, raw in sorted(read, key=lambda entry: LEVELS.index(entry[1])):
        name = "fusion" if len(read) == 1 else f"fusion_{level}"
        found[level] = Placed(family.get(identifier, names, name=name, **defaults), raw)
    return found


def reads_encoders(fusion: Any, names: Sequence[str]) -> bool:
    """Whether a fusion, given as to `place`, reads more than raw features."""
    entries = fusion if isinstance(fusion, list | tuple) else [fusion]
    return any(_read(entry, names)[1] != "features" for entry in entries)


def _read(entry: Any, names: Sequence[str]) -> tuple[Any, str, dict]:
    """Returns identifier, level and sizes of the raw units."""
    own = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
    level, raw = own.pop("level", None), own.pop("raw", None)
    identifier = own["name"] if set(own) == {"name"} else own
    made = callable(identifier) and not isinstance(identifier, type)
    cls = type(identifier) if made else family.class_of(identifier)[0]
    decides = issubclass(cls, DecisionFusion)
    level = level or ("decisions" if decides else "tokens")
    checks.one_of("level", level, LEVELS)
    if decides != (level == "decisions"):
        known = [n for n, c in family.FUSIONS.items() if issubclass(c, DecisionFusion)]
        raise ValueError(
            f"At the level 'decisions' stand the fusions that combine decisions, {known}, and "
            f"they stand nowhere else. Received: {entry!r}. Take another fusion, or level."
        )
    if raw is not None and (level != "features" or not isinstance(raw, Mapping)):
        raise ValueError(
            "`raw` of a fusion must hold sizes of raw units, {modality: {'patch': 4}}, at the "
            f"level 'features'. Received: raw={raw!r} at {level!r}."
        )
    for name in raw or {}:
        if name not in names:
            raise ValueError(f"Unknown modality {name!r} in `raw`. {nearest(name, names)}")
    return identifier, level, dict(raw or {})


def models(
    found: Mapping[str, Placed], name: str, modality: Modality, encoder: Any, hidden_dim: int
) -> dict[str, keras.Model]:
    """Returns what reads a modality: "raw" for the level "features", "encoded" for the others."""
    made = {}
    if set(found) != {"features"}:
        made["encoded"] = encoders.get(encoder, name, modality)
    if "features" in found:
        sizes = found["features"].raw.get(name, {})
        made["raw"] = encoders.raw(name, modality, **{"hidden_dim": hidden_dim, **sizes})
    return made


def join(found: Mapping[str, Placed], read: Mapping[str, Mapping], hidden_dim: int) -> dict:
    """Returns what the heads read.

    Args:
        found: of `place`.
        read: "raw" and "encoded" -> what the models of that name return, by modality.
        hidden_dim: width of a hybrid without decisions.
    """
    fused = {}
    for level, placed in found.items():
        given = read["raw" if level == "features" else "encoded"]
        given = {name: {k: part[k] for k in ("tokens", "mask")} for name, part in given.items()}
        if level == "pooled":
            given = {name: _mean(name, **part) for name, part in given.items()}
        fused[level] = placed.layer(given)
    if len(fused) == 1:
        return next(iter(fused.values()))
    if "decisions" in fused:
        hidden_dim = fused["decisions"]["pooled"].shape[-1]
    return HybridFusion(tuple(fused), hidden_dim=hidden_dim, name="fusion")(fused)


def layers(found: Mapping[str, Placed], names: Sequence[str]) -> list[str]:
    """Returns the names of the layers that `place` and `join` make."""
    own = [getattr(p.layer, "name", f"fusion_{level}") for level, p in found.items()]
    means = [f"{name}_pooled" for name in names] if "pooled" in found else []
    return [*own, *means, *(["fusion"] if len(found) > 1 else [])]


def _mean(name: str, tokens: Any, mask: Any) -> dict:
    tokens, mask = MeanToken(name=f"{name}_pooled")(tokens, mask)
    return {"tokens": tokens, "mask": mask}
