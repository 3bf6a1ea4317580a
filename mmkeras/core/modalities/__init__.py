"""Modality specs, a file each; `KINDS` is the list.

The tf.data pipeline, the model's Inputs, the augmentation and the serving signature all come from
these objects, so that what is served is what was trained. Shapes: H, W, C = height, width,
channels; L = text length; S = audio samples; F = numbers of a vector; T = steps; C = columns of a
table or channels of a series; N = frames of a video; K = items of Several. A batch holds `name`
(the value) and `name_mask` (`mask_shape` behind the batch axis, True = real).
"""

from mmkeras.core.modalities.audio import Audio
from mmkeras.core.modalities.image import Image
from mmkeras.core.modalities.series import Series
from mmkeras.core.modalities.several import Several
from mmkeras.core.modalities.table import Table
from mmkeras.core.modalities.text import Text
from mmkeras.core.modalities.vector import Vector
from mmkeras.core.modalities.video import Video

KINDS = {
    cls.kind: cls
    for cls in (
        Image,
        Text,
        Audio,
        Vector,
        Table,
        Series,
        Video,
        Several,
    )
}

__all__ = [
    "KINDS",
    "Audio",
    "Image",
    "Series",
    "Several",
    "Table",
    "Text",
    "Vector",
    "Video",
]
