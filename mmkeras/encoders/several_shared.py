"""One encoder for all items of a sample."""

from typing import Any

import keras

from mmkeras import encoders
from mmkeras.core import Several
from mmkeras.encoders.base import begin, end
from mmkeras.layers import JoinItems, MergeItems, SplitItems


def several_shared(name: str, modality: Several, *, encoder: Any = None) -> keras.Model:
    """The item's encoder with the same weights for all K, the tokens in one sequence.

    A learned vector per place tells the items apart.

    Args:
        name: of the modality; prefix of every layer.
        modality: an adapted `Several`.
        encoder: of the item's kind, as in `mk.assemble` (a model of your own takes the inputs
            `<name>_item` and `<name>_item_mask`); None takes the first.

    Returns:
        Functional model to tokens (B, K * T, D) and the mask (B, K * T), T tokens per item.
    """
    inputs, value, mask = begin(name, modality)
    item = f"{name}_item"
    model = encoders.get(encoder, item, modality.modality)
    merged = {
        item: MergeItems(name=f"{name}_merge")(value),
        f"{item}_mask": MergeItems(name=f"{name}_merge_mask")(mask),
    }
    out = model(merged)
    tokens = SplitItems(modality.count, name=f"{name}_split")(out["tokens"])
    mask = SplitItems(modality.count, name=f"{name}_split_mask")(out["mask"])
    tokens, mask = JoinItems(name=f"{name}_join")(tokens, mask)
    return end(name, "shared", inputs, tokens, mask)
