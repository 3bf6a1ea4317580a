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
    model = encoders.get(encoder, f"{name}_item", modality.modality)
    return end(name, "shared", inputs, *of_items(name, modality, model, value, mask))


def of_items(
    prefix: str, modality: Several, model: keras.Model, value: Any, mask: Any
) -> tuple[Any, Any]:
    """Returns tokens (B, K * T, D) and mask (B, K * T) that a model gives of every item.

    Args:
        prefix: of the layers' names.
        modality: of the value.
        model: the item's encoder.
        value, mask: (B, K, ...) each.
    """
    item = next(key for key in model.input if not key.endswith("_mask"))
    out = model(
        {
            item: MergeItems(name=f"{prefix}_merge")(value),
            f"{item}_mask": MergeItems(name=f"{prefix}_merge_mask")(mask),
        }
    )
    tokens = SplitItems(modality.count, name=f"{prefix}_split")(out["tokens"])
    mask = SplitItems(modality.count, name=f"{prefix}_split_mask")(out["mask"])
    return JoinItems(name=f"{prefix}_join")(tokens, mask)
