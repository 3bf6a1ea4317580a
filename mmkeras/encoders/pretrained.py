"""Backbones of keras.applications, keras-hub (keras-nlp) and keras-cv as encoders.

    bert = mk.encoders.pretrained("folder/bert")  # preset name, local preset folder, or instance
    resnet = mk.encoders.pretrained(keras.applications.ResNet50)
    modalities = {"image": resnet.modality(size=160), "question": bert.modality(length=24)}
    ...
    model = mk.assemble(data.modalities, encoders={"image": resnet, "question": bert}, ...)

What a backbone expects is declared once: the tokenizer of a preset becomes part of the Text and
is served with it, the scaling of pixels is the first layer of the encoder.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from mmkeras.core import Image, Modality, Text, checks
from mmkeras.encoders.base import GridMask, begin, end
from mmkeras.encoders.levels import with_levels
from mmkeras.encoders.presets import describe, from_preset, loaded
from mmkeras.layers import NormalizePixels
from mmkeras.layers.backbone import Backbone, TextInputs

PIXELS = {
    "raw": {},
    "tf": {"scale": 1 / 127.5, "offset": -1.0},
    "caffe": {"offset": [-103.939, -116.779, -123.68], "reverse": True},
    "torch": {
        "scale": [1 / (255 * s) for s in (0.229, 0.224, 0.225)],
        "offset": [-m / s for m, s in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))],
    },
}
"""Scaling of pixels by the name of its mode in `keras.applications`; "raw" is 0..255."""

FAMILIES = {
    ("resnet50v2", "resnet101v2", "resnet152v2"): "tf",
    ("resnet", "vgg"): "caffe",
    ("inception", "xception", "mobilenet", "nasnet"): "tf",
    ("densenet",): "torch",
}
"""Beginnings of model names of `keras.applications` -> mode; the first that matches counts."""


def pretrained(
    backbone: Any,
    *,
    tokenizer: Any = None,
    pixels: str | Mapping[str, Any] | None = None,
    levels: Sequence[str] = (),
    load_weights: bool = True,
) -> "Pretrained":
    """Returns a backbone as an encoder for `assemble(encoders={...})`.

    Args:
        backbone: a Functional backbone of keras-hub, keras-cv or `keras.applications`, a function
            of `keras.applications` (`keras.applications.ResNet50`), a preset name of keras-hub,
            or the folder of a local preset. The encoder gets a copy of its weights.
        tokenizer: of a text backbone given as an instance: its keras-hub tokenizer.
        pixels: of a picture backbone, where it cannot be known: a key of `PIXELS`, or the
            arguments of `NormalizePixels`. A preset and `keras.applications` say it themselves.
        levels: inner layers (or pyramid levels such as "P3"): the tokens are those of the last,
            the others come along for a multi-scale alignment. The backbone's output when empty.
        load_weights: False leaves the weights random (nothing is fetched).

    Raises:
        ValueError: the preset is not there, or it is no backbone that this can wrap.

    The dtype policy is the one the backbone was made with. A backbone with BatchNormalization
    never updates its statistics (see `mmkeras.layers.backbone`).
    """
    return Pretrained(backbone, tokenizer, pixels, tuple(levels), load_weights)


class Pretrained:
    """What `pretrained` returns: called with `(name, modality)` it makes the encoder."""

    def __init__(
        self, backbone: Any, tokenizer: Any, pixels: Any, levels: tuple, load_weights: bool
    ) -> None:
        """Loads a preset; a function of `keras.applications` waits for the size."""
        self.tokenizer, self.levels, self.load_weights = tokenizer, levels, load_weights
        self.converter = None
        if isinstance(backbone, str | os.PathLike):
            backbone, self.tokenizer, self.converter = from_preset(
                os.fspath(backbone), tokenizer, load_weights
            )
        self.make = None if isinstance(backbone, keras.Model) else _check_function(backbone)
        self.backbone = backbone if self.make is None else None
        self.pixels = pixels

    @property
    def is_text(self) -> bool:
        """Whether the backbone reads token ids."""
        given = self.backbone.input if self.make is None else None
        return isinstance(given, Mapping) and "token_ids" in given

    def modality(self, **fields: Any) -> Modality:
        """Returns the spec that the backbone expects.

        Args:
            **fields: of `mk.Text` (`length`, ...) or `mk.Image` (`size`, `augment`, ...); they
                override what the backbone says.
        """
        if self.is_text:
            if self.tokenizer is None:
                raise ValueError(
                    f"The backbone {self.backbone.name!r} needs its tokenizer to make a modality. "
                    "Received: none. Pass tokenizer=keras_hub.models.BertTokenizer(...), or a "
                    "preset that holds one."
                )
            return Text(**{**describe(self.tokenizer), **fields})
        about: dict[str, Any] = {"resize": "bilinear"}
        if self.converter is not None and self.converter.crop_to_aspect_ratio:
            about["fit"] = "crop"
        size = self._size() or getattr(self.converter, "image_size", None)
        return Image(**{**about, **({"size": size} if size else {"size": 224}), **fields})

    def __call__(self, name: str, modality: Modality) -> keras.Model:
        """Returns the Functional encoder of a modality; see `mmkeras.encoders`."""
        if self.make is not None:
            self._check_kind(name, modality, "image")
            weights = "imagenet" if self.load_weights else None
            backbone = loaded(
                lambda: self.make(include_top=False, weights=weights, input_shape=modality.shape),
                f"{self.make.__name__} with weights={weights!r} and input_shape={modality.shape}",
            )
        else:
            backbone = self.backbone
            self._check_kind(name, modality, "text" if self.is_text else "image")
        inputs, value, mask = begin(name, modality)
        if modality.kind == "text":
            _check_text(name, modality, backbone)
            given = TextInputs(sorted(backbone.input), name=f"{name}_inputs")(value, mask)
        else:
            self._check_size(name, modality)
            given = NormalizePixels(**self._scaling(backbone), name=f"{name}_scale")(value)
            if isinstance(backbone.input, Mapping | list):
                given = keras.tree.pack_sequence_as(backbone.input, [given])
        config = keras.saving.serialize_keras_object(backbone)
        layer = Backbone(config, self.levels, name=f"{name}_backbone")
        outputs = layer(given)
        layer.take_weights(backbone)
        found = [_tokens(f"{name}_{i}", out, mask) for i, out in enumerate(outputs)]
        model = end(name, "pretrained", inputs, *found[-1])
        lower = dict(zip(self.levels[:-1], found, strict=False))
        return with_levels(model, lower) if lower else model

    def _check_kind(self, name: str, modality: Modality, kind: str) -> None:
        if modality.kind != kind:
            raise ValueError(
                f"The backbone for {name!r} reads {kind} modalities. Received: a modality of kind "
                f"{modality.kind!r}. Declare it with `.modality(...)` of what "
                "mk.encoders.pretrained(...) returned."
            )

    def _size(self) -> tuple[int, int] | None:
        """(height, width) that an instance was made for; None where any will do."""
        if self.backbone is None:
            return None
        shape = tuple(keras.tree.flatten(self.backbone.input)[0].shape)[1:3]
        return None if None in shape else shape

    def _check_size(self, name: str, modality: Image) -> None:
        size = self._size()
        if size not in (None, modality.size) or modality.channels != 3:
            raise ValueError(
                f"The backbone for {name!r} takes pictures of {size or 'any size'} in 3 channels. "
                f"Received: {modality.shape}. Declare it with `.modality()`, or make the backbone "
                f"with input_shape={modality.shape}."
            )

    def _scaling(self, backbone: keras.Model) -> Mapping[str, Any]:
        """Arguments of `NormalizePixels`."""
        if isinstance(self.pixels, Mapping):
            return self.pixels
        if self.pixels is not None:
            return PIXELS[checks.one_of("pixels", self.pixels, PIXELS)]
        if self.converter is not None:
            given = {"scale": self.converter.scale, "offset": self.converter.offset}
            return {key: value for key, value in given.items() if value is not None}
        if any(type(x).__name__ in ("Rescaling", "Normalization") for x in backbone.layers):
            return PIXELS["raw"]  # it scales the pixels itself
        for starts, mode in FAMILIES.items():
            named = backbone.name.lower().startswith(starts)
            if named and not hasattr(backbone, "from_preset"):
                return PIXELS[mode]
        raise ValueError(
            f"How the backbone {backbone.name!r} wants its pixels must be said. Received: "
            f"pixels=None. Pass pixels= one of {sorted(PIXELS)}, or {{'scale': ..., 'offset': "
            "...}; 'raw' leaves them at 0..255."
        )


def _tokens(name: str, out: Any, mask: Any) -> tuple[Any, Any]:
    """(B, h, w, D), (B, T, D) or (B, D), and a mask (B,) or (B, T), to tokens and their mask."""
    if len(out.shape) != 3:
        count = out.shape[1] * out.shape[2] if len(out.shape) == 4 else 1
        out = keras.layers.Reshape((count, out.shape[-1]), name=f"{name}_grid")(out)
    if len(mask.shape) == 1:
        mask = GridMask(out.shape[1], name=f"{name}_grid_mask")(mask)
    return out, mask


def _check_text(name: str, modality: Text, backbone: keras.Model) -> None:
    size = getattr(backbone, "vocabulary_size", None)
    if size is not None and len(modality.vocabulary) > size:
        raise ValueError(
            f"The vocabulary of {name!r} must not be larger than that of its backbone. Received: "
            f"{len(modality.vocabulary)} tokens, the backbone knows {size}. Declare the modality "
            "with `.modality(length=...)`."
        )
    longest = getattr(backbone, "max_sequence_length", None)
    if longest is not None and modality.length > longest:
        raise ValueError(
            f"The backbone for {name!r} reads at most {longest} tokens. Received: "
            f"length={modality.length}. Declare a shorter length."
        )


def _check_function(backbone: Any) -> Any:
    if not callable(backbone) or "include_top" not in inspect.signature(backbone).parameters:
        raise TypeError(
            "`backbone` must be a keras.Model, a function of keras.applications, a preset name or "
            f"the folder of a preset. Received: {backbone!r}."
        )
    return backbone
