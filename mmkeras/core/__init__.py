"""Modality specs, targets, registration, identifier resolution and argument checks (rank 0)."""

from mmkeras.core.identifiers import resolve
from mmkeras.core.modalities import (
    Audio,
    Image,
    Series,
    Several,
    Table,
    Text,
    Vector,
    Video,
)
from mmkeras.core.modality import Modality
from mmkeras.core.registration import register
from mmkeras.core.spec import from_json, load, save, to_json
from mmkeras.core.targets import Label, Labels, Number, Target

__all__ = [
    "Audio",
    "Image",
    "Label",
    "Labels",
    "Modality",
    "Number",
    "Series",
    "Several",
    "Table",
    "Target",
    "Text",
    "Vector",
    "Video",
    "from_json",
    "load",
    "register",
    "resolve",
    "save",
    "to_json",
]
