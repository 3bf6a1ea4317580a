"""Two modalities aligned, matched and fused without labels."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkeras.core import Modality
from mmkeras.objectives import Contrastive, MaskedText, Matching


def albef_like(
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any] | None = None,
    fusion: Any = "late_transformer",
    *,
    dim: int = 64,
    hidden_dim: int = 64,
    rate: float = 0.15,
    name: str = "albef_like",
) -> keras.Model:
    """Returns a model with the three losses of ALBEF (Li et al. 2021, arXiv 2107.07651).

    It is `mk.assemble` with three objectives for heads: "match", contrastive, aligns the encoders
    before the fusion; "pairing" tells true pairs from hard negatives by what the fusion pools; and
    "words" predicts masked words with the help of the other modality through the fusion. Their sum
    is minimised. What it has learnt is taken out with `mk.encoders.of(model, name)`.

    Deviations: no momentum model, and so neither its queue nor its pseudo-targets; any fusion of
    tokens stands in place of the cross-attention in the upper half of a text encoder.

    Args:
        modalities: name -> adapted spec, two, one of them a text with "[MASK]" in its vocabulary,
            `mk.Text(..., mask_token=True)`.
        encoders: as of `mk.assemble`; the text's must be a transformer, and is where left out.
        fusion, hidden_dim: as of `mk.assemble`; it reads tokens.
        dim: width of the common space of "match".
        rate: share of the words that is masked.
        name: of the model.

    Returns:
        A model with the outputs "match" (B, 2, dim), "pairing" (B, 2) and "words" (B, 2).

    Raises:
        ValueError: not two modalities, or not one text among them.
    """
    from mmkeras.assembly import assemble  # which imports this package

    texts = [m for m, spec in modalities.items() if spec.kind == "text"]
    if len(modalities) != 2 or len(texts) != 1:
        kinds = {m: spec.kind for m, spec in modalities.items()}
        raise ValueError(
            f"albef_like takes a text and one other modality. Received: {kinds}. For others, give "
            "the objectives to mk.assemble."
        )
    heads = {
        "match": Contrastive(dim),
        "pairing": Matching("match"),
        "words": MaskedText(texts[0], rate=rate, cross=True),
    }
    encoders = {texts[0]: "transformer", **(encoders or {})}
    return assemble(modalities, encoders, fusion, heads, hidden_dim=hidden_dim, name=name)
