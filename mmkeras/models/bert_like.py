"""A text encoder that learns by masked words."""

from typing import Any

import keras

from mmkeras.core import Text
from mmkeras.objectives import MaskedText


def bert_like(
    modality: Text,
    *,
    modality_name: str = "text",
    rate: float = 0.15,
    head: str = "words",
    name: str = "bert_like",
    **encoder: Any,
) -> keras.Model:
    """Returns a transformer under masked language modelling (Devlin et al. 2019).

    It is `mk.assemble` with `mk.objectives.MaskedText` as the only head; see there for what differs
    from BERT. What it has learnt is taken out with `mk.encoders.of(model, "text")`.

    Args:
        modality: adapted, with "[MASK]" in its vocabulary: `mk.Text(..., mask_token=True)`.
        modality_name: its name.
        rate: share of the tokens that is chosen.
        head: name of the output.
        name: of the model.
        **encoder: of `mk.encoders.text_transformer`: `variant`, `dropout`, sizes; post-norm, as in
            BERT, unless `normalize_first=True`.

    Returns:
        A model with the output `head`, (B, 2): see `mk.objectives.MaskedText`.

    >>> import mmkeras as mk
    >>> spec = mk.Text(length=8, mask_token=True, vocabulary=("[PAD]", "[UNK]", "[MASK]", "a", "b"))
    >>> mk.models.bert_like(spec, hidden_dim=16, num_heads=2).output["words"].shape
    (None, 2)
    """
    from mmkeras.assembly import assemble  # which imports this package

    own = {"name": "transformer", "normalize_first": False, **encoder}
    heads = {head: MaskedText(modality_name, rate=rate)}
    return assemble({modality_name: modality}, {modality_name: own}, heads=heads, name=name)
