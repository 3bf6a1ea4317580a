"""What each kind of modality does with raw data: one module per kind.

Each has `column(name, modality, rows, source, archive)`, which reads the cells of a source, and
`Decoder(modality)`, a `tf.Module` called on a batch of raw items: the same runs in tf.data and
inside the SavedModel. It returns `(value, mask)` with the shapes of its modality. An empty string
(for numbers: any NaN, or what is not `steps.usable`) is an absent item: zeros and a mask that is
false everywhere.
In a sequence of numbers it is the row with the NaN that is not there, in a table the empty cell.
A decoder whose items need no decoding to be told unreadable has `broken(raw)`, bool (B,); of the
others those are that it raises for, or that hold nothing; see `mmkeras.data.tolerant`.
Where there is something to learn from training rows, `adapt(modality, column)` does; where decoded
tensors can be given, `encode(modality, value, mask)` makes the raw item of one. A decoder that
crops at random has `crop`, one that changes raw items `noise` (None where the spec does not ask
for it); it takes draws, and crops decoded batches with `recrop(value, mask, draws)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.core import Modality
from mmkeras.data.columns import Column, read_files
from mmkeras.data.kinds import audio, image, series, several, table, text, vector, video
from mmkeras.data.sources import Rows

KINDS = {
    "image": image,
    "text": text,
    "audio": audio,
    "vector": vector,
    "table": table,
    "series": series,
    "video": video,
    "several": several,
}


def make(
    name: str,
    modality: Modality,
    rows: Rows,
    source: str | Sequence[str] | Mapping[str, str],
    archive: Any = None,
) -> Column:
    """Returns the raw (or, for arrays, decoded) column of a modality.

    Args:
        name: of the modality, for messages and for the key of an explicit mask.
        modality: its spec.
        rows: the source.
        source: column name; several for the numbers of a Vector or the items of Several, a dict
            for the cells of a Table.
        archive: zip or tar file whose members the cells name.
    """
    return KINDS[modality.kind].column(name, modality, rows, source, archive)


def adapt(modality: Modality, column: Column) -> Modality:
    """Returns the modality with everything learnt that was still open."""
    return modality if modality.adapted else KINDS[modality.kind].adapt(modality, column)


def decoder(modality: Modality, **kwargs: Any) -> tf.Module:
    """Returns the decoder of an adapted modality."""
    return KINDS[modality.kind].Decoder(modality, **kwargs)


def is_random(decode: tf.Module) -> bool:
    """Whether a decoder takes draws, as the spec's `augment` asks for crops or noise."""
    return any(getattr(decode, name, None) is not None for name in ("crop", "noise"))


def encode(modality: Modality, column: Column, rows: np.ndarray) -> np.ndarray:
    """Returns rows as the serving signature takes them: bytes, UTF-8 or numbers.

    Pictures given as arrays are encoded as PNG and waves as 16-bit WAV (exact for pictures, and
    for waves that are multiples of 1 / 32768; a WAV ends at the last real sample, and cannot say
    that a sample before it is not real).
    """
    if column.origin is not None:
        return encode(modality, column.origin, rows)
    index = column.index[rows]  # of Several (N, K)
    packed = _packed(modality.item, column, index.reshape(-1))
    return packed.reshape(*index.shape, *packed.shape[1:])


def _packed(modality: Modality, column: Column, items: np.ndarray) -> np.ndarray:
    if column.form == "raw":
        return column.items[items]
    if column.form == "path":
        return read_files(tf.constant(list(column.items[items]))).numpy()
    mask = column.mask[items].reshape(len(items), -1)
    pack = KINDS[modality.kind].encode
    return np.array(
        [
            pack(modality, column.items[item], m) if m.any() else b""
            for item, m in zip(items, mask, strict=True)
        ],
        object,
    )
