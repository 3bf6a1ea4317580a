"""What a preset of keras-hub holds: backbone, tokenizer and scaling of pictures."""

import base64
from collections.abc import Mapping
from typing import Any

import keras


def from_preset(preset: str, tokenizer: Any, load_weights: bool) -> tuple[Any, Any, Any]:
    """Returns backbone, tokenizer and picture converter of a preset; None for what it lacks."""
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError("Presets need keras-hub: pip install keras-hub.") from error
    backbone = loaded(
        lambda: keras_hub.models.Backbone.from_preset(preset, load_weights=load_weights),
        f"the preset {preset!r}",
    )
    converter = None
    for part in (keras_hub.tokenizers.Tokenizer, keras_hub.layers.ImageConverter):
        try:
            found = part.from_preset(preset)
        except (ValueError, FileNotFoundError):
            continue  # a preset need not hold both
        if part is keras_hub.tokenizers.Tokenizer:
            tokenizer = tokenizer or found
        else:
            converter = found
    return backbone, tokenizer, converter


def loaded(load: Any, what: str) -> Any:
    """Returns `load()`, or raises with what was asked for; Keras and its hubs raise anything."""
    try:
        return load()
    except Exception as error:
        raise ValueError(
            f"A pretrained backbone must be there to be loaded. Received: {what}: "
            f"{type(error).__name__}: {str(error)[:300]} Give the folder of a local preset "
            "(`backbone.save_to_preset(folder)`), an instance, or load_weights=False."
        ) from error


def describe(tokenizer: Any) -> dict[str, Any]:
    """Returns the fields of `mk.Text` that describe a keras-hub tokenizer, JSON-able."""
    config = keras.saving.serialize_keras_object(tokenizer)
    inner = config["config"]
    inner.update({key: None for key in ("vocabulary", "merges", "proto") if key in inner})
    if inner.get("unsplittable_tokens"):
        inner["unsplittable_tokens"] = sorted(inner["unsplittable_tokens"])  # they come as a set
    about: dict[str, Any] = {"config": config}
    if getattr(tokenizer, "proto", None) is not None:
        about["proto"] = base64.b64encode(tokenizer.proto).decode("ascii")
    if getattr(tokenizer, "merges", None) is not None:
        about["merges"] = [str(merge) for merge in tokenizer.merges]
    for end_, names in {"start": ("start", "cls"), "end": ("end", "sep")}.items():
        ids = [getattr(tokenizer, f"{n}_token_id", None) for n in names]
        about[end_] = next((int(i) for i in ids if i is not None), None)
    if about["start"] == getattr(tokenizer, "pad_token_id", None):
        about["start"] = None  # T5 begins its decoder with padding, its encoder with nothing
    vocabulary = tokenizer.get_vocabulary()
    if isinstance(getattr(tokenizer, "vocabulary", None), Mapping):
        vocabulary = sorted(vocabulary, key=tokenizer.vocabulary.get)
    return {"tokenizer": about, "vocabulary": tuple(vocabulary)}
