"""What the formulas of all fusions share, in float64 NumPy: from inputs to tokens and means."""

import numpy as np

from tests.layers.formulas import dense, masked_mean, under


def projected(layer, inputs, w):
    """Per modality the projected tokens with the absent token behind, and the mask."""
    tokens, masks = {}, {}
    for m in layer.modalities:
        x, mask = inputs[m]["tokens"].astype("float64"), inputs[m]["mask"]
        x = dense(x, under(w, f"{m}_projection"))
        token = np.broadcast_to(w[f"{m}_absent/token"], (len(x), 1, x.shape[-1]))
        absent = ~mask.any(axis=1, keepdims=True)
        tokens[m] = np.concatenate([x, token], axis=1)
        masks[m] = np.concatenate([mask, absent], axis=1)
        tokens[m] = tokens[m] * masks[m][:, :, None]
    return tokens, masks


def means(layer, inputs, w):
    """x_m: the masked mean of each modality, its absent token where it is absent."""
    tokens, masks = projected(layer, inputs, w)
    return {m: masked_mean(tokens[m], masks[m]) for m in layer.modalities}
