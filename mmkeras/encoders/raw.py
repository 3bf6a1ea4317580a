"""Raw units of every kind behind one linear projection: what is fused early."""

from typing import Any

import keras

from mmkeras.core import Modality
from mmkeras.encoders.audio_frames import frames
from mmkeras.encoders.base import GridMask, PadSteps, PoolMask, ScalePixels, begin, end, sizes_of
from mmkeras.encoders.several_shared import of_items
from mmkeras.encoders.table_cells import FeatureTokenizer
from mmkeras.encoders.text_transformer import embedded
from mmkeras.encoders.video_conv import whole_strides
from mmkeras.layers import JoinItems, LearnedPositions, MergeItems, SplitItems, ZeroMasked

SIZES = {
    "image": {"patch": 8},
    "text": {},
    "audio": {"patch": 8},
    "vector": {},
    "table": {},
    "series": {"patch": 8},
    "video": {"patch": 8, "tubelet": 2},
}
"""What may be given for each kind, and what it is otherwise."""


def raw(name: str, modality: Modality, *, hidden_dim: int = 64, **sizes: Any) -> keras.Model:
    """Units of the raw value, each projected to D by one linear map that all of them share.

        image    patches of P x P pixels, as of ViT
        text     words
        audio    patches of P log-mel or MFCC frames, over all bands
        vector   the vector; of a sequence every step
        table    cells, each with a map of its own, as of FT-Transformer
        series   patches of P steps, over all channels
        video    tubelets of `tubelet` frames of P x P pixels, as of ViViT
        several  those of every item

    A learned vector per place is added (video: one for the place in the picture, one for the step;
    cells have their biases). There is no depth and no non-linearity: what the units mean, alone
    and together, is for the fusion to find out. `assemble` takes it at the level "features".

    Args:
        name: of the modality; prefix of every layer, as `<name>_raw`.
        modality: an adapted spec.
        hidden_dim: D.
        **sizes: of `SIZES[modality.kind]`: `patch` (P; pixels, frames or steps), `tubelet`
            (frames). A value that is no multiple is padded at the end (a picture on all sides).

    Returns:
        Functional model to tokens (B, T, D) and the mask (B, T): a unit is real where any of what
        it covers is.

    Raises:
        ValueError: a kind of one's own, or another size.

    >>> import mmkeras as mk
    >>> mk.encoders.raw("photo", mk.Image(size=32), patch=16).output["tokens"].shape
    (None, 4, 64)
    """
    if modality.item.kind not in SIZES:
        raise ValueError(
            f"Raw units are known of the kinds {sorted(SIZES)}. Received: {name!r} of the kind "
            f"{modality.item.kind!r}. Give it an encoder and fuse it at another level."
        )
    inputs, x, mask = begin(name, modality)
    prefix = f"{name}_raw"
    if modality.item is not modality:
        model = raw(f"{name}_item", modality.item, hidden_dim=hidden_dim, **sizes)
        return end(name, "raw", inputs, *of_items(prefix, modality, model, x, mask))
    sizes = sizes_of(SIZES, modality.kind, sizes)
    units = {
        "image": _image,
        "text": _text,
        "audio": _audio,
        "vector": _vector,
        "table": _table,
        "series": _patches,
        "video": _video,
    }
    x, mask = units[modality.kind](prefix, modality, x, mask, hidden_dim, **sizes)
    return end(name, "raw", inputs, x, mask)


def _image(prefix: str, modality: Any, x: Any, mask: Any, dim: int, patch: int) -> tuple:
    x = ScalePixels(name=f"{prefix}_scale")(x)
    x = keras.layers.Conv2D(dim, patch, patch, padding="same", name=f"{prefix}_patches")(x)
    count = x.shape[1] * x.shape[2]
    x = keras.layers.Reshape((count, dim), name=f"{prefix}_grid")(x)
    mask = GridMask(count, name=f"{prefix}_grid_mask")(mask)
    return LearnedPositions(count, name=f"{prefix}_positions")(x), mask


def _text(prefix: str, modality: Any, ids: Any, mask: Any, dim: int) -> tuple:
    return embedded(prefix, modality, ids, dim), mask


def _audio(prefix: str, modality: Any, wave: Any, mask: Any, dim: int, patch: int) -> tuple:
    x, mask = frames(prefix, modality, wave, mask)
    return _patches(prefix, modality, x, mask, dim, patch)


def _patches(prefix: str, modality: Any, x: Any, mask: Any, dim: int, patch: int) -> tuple:
    x = PadSteps(patch, name=f"{prefix}_pad")(x)
    x = keras.layers.Conv1D(dim, patch, patch, name=f"{prefix}_patches")(x)
    mask = PoolMask(patch, name=f"{prefix}_patch_mask")(mask)
    return LearnedPositions(x.shape[1], name=f"{prefix}_positions")(x), mask


def _vector(prefix: str, modality: Any, x: Any, mask: Any, dim: int) -> tuple:
    x = keras.layers.Dense(dim, name=f"{prefix}_project")(x)
    if modality.steps is not None:
        return LearnedPositions(modality.steps, name=f"{prefix}_positions")(x), mask
    x = keras.layers.Reshape((1, dim), name=f"{prefix}_token")(x)
    return x, GridMask(1, name=f"{prefix}_token_mask")(mask)


def _table(prefix: str, modality: Any, cells: Any, mask: Any, dim: int) -> tuple:
    return FeatureTokenizer(
        len(modality.numeric), modality.sizes, dim, with_cls=False, name=f"{prefix}_cells"
    )(cells, mask)


def _video(
    prefix: str, modality: Any, x: Any, mask: Any, dim: int, patch: int, tubelet: int
) -> tuple:
    x = ZeroMasked(name=f"{prefix}_frames")(ScalePixels(name=f"{prefix}_scale")(x), mask)
    x, mask = whole_strides(x, mask, tubelet, f"{prefix}_tubelets")
    size = (tubelet, patch, patch)
    x = keras.layers.Conv3D(dim, size, size, padding="same", name=f"{prefix}_tubelets")(x)
    time, grid = x.shape[1], x.shape[2] * x.shape[3]
    x = keras.layers.Reshape((time, grid, dim), name=f"{prefix}_grid")(x)
    x = LearnedPositions(grid, name=f"{prefix}_places")(MergeItems(name=f"{prefix}_merge")(x))
    x = SplitItems(time, name=f"{prefix}_split")(x)
    mask = GridMask(grid, name=f"{prefix}_real")(MergeItems(name=f"{prefix}_merge_mask")(mask))
    mask = SplitItems(time, name=f"{prefix}_split_mask")(mask)
    return JoinItems(name=f"{prefix}_steps")(x, mask)
