"""A foreign backbone as one layer, and the inputs of those that read text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from mmkeras.core import register
from mmkeras.core.identifiers import nearest


@register
class Backbone(keras.layers.Layer):
    """A model of keras.applications, keras-hub or keras-cv, made anew inside this layer.

    Its weights carry the name of this layer in their paths, so that two backbones of one model
    cannot be confused and patterns reach them (`image_backbone/conv5_*`); what does not lead to
    the outputs (poolers, classifiers) is left out. A backbone with BatchNormalization always runs
    as in inference, also while it trains: the statistics stay those it came with, gamma and beta
    train, dropout and stochastic depth are off. So samples, partial batches and replicas cannot
    change each other. A backbone without it has its dropout while training.

    Args:
        config: the serialised backbone (`keras.saving.serialize_keras_object`).
        levels: names of inner layers or pyramid levels (keras-hub: "P3") whose outputs are
            returned; the backbone's own output when empty.
        frozen: names of the inner layers that do not train.

    Call arguments:
        inputs: what the backbone takes: one tensor, or a dict.

    Returns:
        List of outputs, one for each level, in the compute dtype.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        levels: Sequence[str] = (),
        frozen: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Stores the arguments; the backbone is made in `build`."""
        super().__init__(**kwargs)
        self._config = json.dumps(config)  # Keras changes a dict that it makes a model from
        self.levels, self._frozen = tuple(levels), tuple(frozen)

    def build(self, input_shape: Any) -> None:
        """Makes the backbone inside this layer's name."""
        backbone = keras.saving.deserialize_keras_object(json.loads(self._config))
        self.model = tapped(backbone, self.levels)
        self.inference = any(v.path.endswith("/moving_mean") for v in self.model.weights)
        for layer in self.model.layers:
            if layer.name in self._frozen:
                layer.trainable = False

    def call(self, inputs: Any, training: bool = False) -> list:
        """Returns the outputs of the levels."""
        outputs = self.model(inputs, training=training and not self.inference)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [ops.cast(output, self.compute_dtype) for output in outputs]

    def take_weights(self, backbone: keras.Model) -> None:
        """Copies the weights of a backbone of the same config: by path, or else in Keras' order.

        (Layers without a name of their own get other numbers in another model.)
        """
        held = {w.path: w for w in backbone.weights}
        mine = {w.path.removeprefix(f"{self.path}/"): w for w in self.model.weights}
        if set(mine) <= set(held):
            for path, weight in mine.items():
                weight.assign(held[path])
        else:
            self.model.set_weights(tapped(backbone, self.levels).get_weights())

    def compute_output_spec(self, inputs: Any, training: bool = False) -> list:
        """As the backbone says, in the compute dtype."""
        outputs = self.model.compute_output_spec(inputs)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [keras.KerasTensor(output.shape, self.compute_dtype) for output in outputs]

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        frozen = self._frozen
        if self.built and self.trainable:
            frozen = [x.name for x in self.model.layers if x.weights and not x.trainable]
        return {
            **super().get_config(),
            "config": json.loads(self._config),
            "levels": list(self.levels),
            "frozen": list(frozen),
        }


def tapped(backbone: keras.Model, levels: Sequence[str] = ()) -> keras.Model:
    """Returns a Functional model from the backbone's inputs to the list of its levels.

    Raises:
        ValueError: no such level, or outputs among which one must be chosen.
    """
    outputs = [_level(backbone, level) for level in levels] or [_last(backbone)]
    return keras.Model(backbone.input, outputs, name=f"{backbone.name}_tapped")


def _level(backbone: keras.Model, level: str) -> Any:
    pyramid = getattr(backbone, "pyramid_outputs", {})
    known = {layer.name: layer for layer in backbone.layers}
    if level in pyramid:
        return pyramid[level]
    if level not in known:
        raise ValueError(
            f"`levels` must name inner layers of {backbone.name!r}. Received: {level!r}. "
            f"{nearest(level, [*pyramid, *known])}"
        )
    output = known[level].output
    return output[0] if isinstance(output, list | tuple) else output


def _last(backbone: keras.Model) -> Any:
    output = backbone.output
    if isinstance(output, Mapping):
        if "sequence_output" not in output:
            raise ValueError(
                f"The backbone {backbone.name!r} must have one output, or 'sequence_output'. "
                f"Received: {sorted(output)}. Name the inner layer to take: levels=('name',)."
            )
        return output["sequence_output"]
    return output[0] if isinstance(output, list | tuple) else output


@register
class TextInputs(keras.layers.Layer):
    """Token ids and mask as the dict that a keras-hub text backbone takes.

    Args:
        names: of the backbone's inputs, among token_ids, padding_mask and segment_ids (zeros).
    """

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        """Checks the names; it has no weights."""
        super().__init__(autocast=False, **kwargs)
        self.names = tuple(names)
        known = {"token_ids", "padding_mask", "segment_ids"}
        if not set(self.names) <= known:
            raise ValueError(
                f"A text backbone must take inputs among {sorted(known)}. Received: "
                f"{list(self.names)}. Pass an encoder-only backbone, or its encoder alone."
            )

    def call(self, ids: Any, present: Any) -> dict:
        """Returns the dict."""
        held = {
            "token_ids": ids,
            "padding_mask": ops.cast(present, "int32"),
            "segment_ids": ops.zeros_like(ids),
        }
        return {name: held[name] for name in self.names}

    def compute_output_spec(self, ids: Any, present: Any) -> dict:
        """(B, L) int32 each."""
        return {name: keras.KerasTensor(ids.shape, "int32") for name in self.names}

    def get_config(self) -> dict:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "names": list(self.names)}
