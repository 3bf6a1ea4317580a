"""The check of a batch against the model's inputs, before the first step."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkeras.core.identifiers import nearest


def check_batch(model: keras.Model, batch: Any) -> None:
    """Raises unless the batch's inputs have the names and shapes of the model's inputs.

    Args:
        model: a Functional model with dict inputs; others are left to Keras.
        batch: `(x, y, sample_weight)` or parts of it; leaves have `shape`.
    """
    x = keras.utils.unpack_x_y_sample_weight(batch)[0]
    declared = model.input
    if not isinstance(declared, Mapping) or not isinstance(x, Mapping):
        return
    for name, tensor in declared.items():
        if name not in x:
            raise ValueError(
                f"The batch must hold {name!r}, an input of the model. Received: {sorted(x)}. "
                f"{nearest(name, x)} An absent modality is zeros with a false mask."
            )
        want, got = tuple(tensor.shape)[1:], tuple(x[name].shape)[1:]
        if len(want) != len(got) or any(
            w is not None and g is not None and w != g for w, g in zip(want, got, strict=True)
        ):
            what = "mask" if name.endswith("_mask") else "value"
            raise ValueError(
                f"The {what} {name!r} must have the shape (B, {', '.join(map(str, want))}) that "
                f"the model declares. Received: (B, {', '.join(map(str, got))}). Build data and "
                "model from the same modalities (`data.modalities`)."
            )
