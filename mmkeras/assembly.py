"""`assemble`: from declared modalities to a model that is ready for `compile` and `fit`."""

from collections.abc import Mapping
from typing import Any

import keras

from mmkeras.core import Modality
from mmkeras.models import graph


def assemble(
    modalities: Mapping[str, Modality],
    encoders: Mapping[str, Any] | None = None,
    fusion: Any = "late_transformer",
    heads: Mapping[str, keras.layers.Layer] | None = None,
    *,
    alignment: Any = None,
    hidden_dim: int = 64,
    dropout: float = 0.0,
    precision: Mapping[str, str] | None = None,
    name: str = "multimodal",
) -> keras.Model:
    """Returns a Functional model: encoders, fusion at one level or several, any number of heads.

    Args:
        modalities: name -> adapted spec, in the order in which the fusion reads them
            (`data.modalities`).
        encoders: name -> encoder name of the modality's kind, dict `{"name": ..., **arguments}`,
            callable or `keras.Model`; the kind's first encoder where left out. None for a fusion
            that reads features alone.
        fusion: name, dict `{"name": ..., **arguments}`, subclass of `mk.fusion.Fusion` or layer;
            see `mmkeras.fusion.FUSIONS`. The dict may say at which "level" the fusion reads:
            "features" (early: raw units without encoders, of the sizes in the dict's "raw", see
            `mk.encoders.raw`), "tokens" of the encoders (unless it is said, or decisions are
            combined), "pooled" (a mean per modality) or "decisions" (late). A list of fusions at
            different levels is a hybrid, see `mk.fusion.HybridFusion`.
        heads: output name -> head or objective, e.g. `{"answer": mk.heads.Classifier(classes)}`;
            an objective (`mk.objectives.Contrastive()`) reads the encoders and not the fusion.
        alignment: what projects the tokens of the encoders into one space of `hidden_dim` before
            the fusion: name, dict `{"name": ..., **arguments}`, layer, or None for none (a fusion
            has projections of its own); see `mmkeras.alignment.ALIGNMENTS`.
        hidden_dim: common token width of the fusion.
        dropout: rate of the fusion.
        precision: modality name or "fusion" (alignment included) -> "float32", "mixed_bfloat16"
            or "mixed_float16", for the parts that differ from `mk.training.precision`; heads are
            float32.
        name: of the model.

    Returns:
        `mmkeras.Model` (on other backends than TensorFlow a `keras.Model`) with the inputs
        `name` and `name_mask` per modality and one output per head.

    Raises:
        ValueError, TypeError: with the rule, the received value and the way out.

    >>> import mmkeras as mk
    >>> spec = {"image": mk.Image(size=32), "numbers": mk.Vector(size=3, normalize=False)}
    >>> model = mk.assemble(spec, heads={"kind": mk.heads.Classifier(["cat", "dog"])})
    >>> sorted(model.input)
    ['image', 'image_mask', 'numbers', 'numbers_mask']
    """
    inputs, outputs = graph(
        modalities,
        encoders,
        fusion,
        heads,
        alignment=alignment,
        hidden_dim=hidden_dim,
        dropout=dropout,
        precision=precision,
    )
    if keras.backend.backend() != "tensorflow":
        return keras.Model(inputs, outputs, name=name)
    from mmkeras.training import Model

    return Model(inputs, outputs, name=name)
