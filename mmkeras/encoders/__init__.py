"""Encoders: functions from (name, modality) to a Functional `keras.Model`.

Every encoder maps `{name, name_mask}` to `{"tokens": (B, T, D), "mask": (B, T)}`; T = 1 for a
vector. Content behind a false mask is cut off first, so it cannot change a bit of the output.
"""

from typing import Any

import keras

from mmkeras.core import Modality, resolve
from mmkeras.encoders.audio_cnn import audio_cnn
from mmkeras.encoders.audio_crnn import audio_crnn
from mmkeras.encoders.audio_speech_transformer import audio_speech_transformer
from mmkeras.encoders.audio_wave_cnn import audio_wave_cnn
from mmkeras.encoders.halves import of
from mmkeras.encoders.image_cnn import image_cnn
from mmkeras.encoders.image_inception import image_inception
from mmkeras.encoders.image_resnet import image_resnet
from mmkeras.encoders.image_vit import image_vit
from mmkeras.encoders.levels import levels
from mmkeras.encoders.pretrained import pretrained
from mmkeras.encoders.raw import raw
from mmkeras.encoders.sequence_lstm import sequence_lstm
from mmkeras.encoders.sequence_transformer import sequence_transformer
from mmkeras.encoders.series_patchtst import series_patchtst
from mmkeras.encoders.series_tcn import series_tcn
from mmkeras.encoders.several_shared import several_shared
from mmkeras.encoders.table_ft_transformer import table_ft_transformer
from mmkeras.encoders.table_mlp import table_mlp
from mmkeras.encoders.text_bow import text_bow
from mmkeras.encoders.text_char_cnn import text_char_cnn
from mmkeras.encoders.text_recurrent import text_bilstm, text_gru, text_lstm
from mmkeras.encoders.text_transformer import text_transformer
from mmkeras.encoders.vector_mlp import vector_mlp
from mmkeras.encoders.video_cnn3d import video_cnn3d
from mmkeras.encoders.video_frames import video_frames_lstm, video_frames_transformer
from mmkeras.encoders.video_r2plus1d import video_r2plus1d
from mmkeras.encoders.video_vivit import video_vivit
from mmkeras.encoders.word_vectors import load_vectors

# The first of a kind is its default.
ENCODERS = {
    "image": {
        "cnn": image_cnn,
        "resnet": image_resnet,
        "inception": image_inception,
        "vit": image_vit,
    },
    "text": {
        "lstm": text_lstm,
        "bilstm": text_bilstm,
        "gru": text_gru,
        "bow": text_bow,
        "transformer": text_transformer,
        "char_cnn": text_char_cnn,
    },
    "audio": {
        "cnn": audio_cnn,
        "crnn": audio_crnn,
        "wave_cnn": audio_wave_cnn,
        "speech_transformer": audio_speech_transformer,
    },
    "vector": {"mlp": vector_mlp, "lstm": sequence_lstm, "transformer": sequence_transformer},
    "table": {"mlp": table_mlp, "ft_transformer": table_ft_transformer},
    "series": {"tcn": series_tcn, "lstm": sequence_lstm, "patchtst": series_patchtst},
    "video": {
        "cnn3d": video_cnn3d,
        "r2plus1d": video_r2plus1d,
        "frames_lstm": video_frames_lstm,
        "frames_transformer": video_frames_transformer,
        "vivit": video_vivit,
    },
    "several": {"shared": several_shared},
}


def get(identifier: Any, name: str, modality: Modality) -> keras.Model:
    """Returns the encoder of one modality.

    Args:
        identifier: a name of `ENCODERS[modality.kind]`, a dict `{"name": ..., **arguments}`, a
            callable `(name, modality) -> keras.Model`, or a `keras.Model` with inputs `name` and
            `name_mask` and outputs `tokens` and `mask`. None takes the first of the kind.
        name: the modality's name, prefix of every layer.
        modality: its spec.

    Raises:
        ValueError: unknown name, or a model with other inputs or outputs.
        TypeError: neither name, dict, callable nor model, or a callable that returns no model.
    """
    if isinstance(identifier, keras.Model):
        return _checked(identifier, name)
    if callable(identifier):
        return _checked(identifier(name, modality), name)
    table = ENCODERS.get(modality.kind, {})
    if identifier is None:
        if not table:
            raise ValueError(
                f"There is no encoder for {modality.kind!r} modalities. Received: none for "
                f"{name!r}. Pass your own, a callable `(name, modality) -> keras.Model`."
            )
        identifier = next(iter(table))
    function, overrides = resolve(identifier, table, f"encoder for {modality.kind} modalities")
    return function(name, modality, **overrides)


def _checked(model: keras.Model, name: str) -> keras.Model:
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"An encoder for {name!r} must be, or return, a `keras.Model`. Received: {model!r}."
        )
    for what, needed in (("input", {name, f"{name}_mask"}), ("output", {"tokens", "mask"})):
        held = getattr(model, what, None)  # a Sequential or subclassed model may have none
        if not isinstance(held, dict) or set(held) - {"levels"} != needed:
            raise ValueError(
                f"An encoder for {name!r} must have the {what}s {sorted(needed)}. "
                f"Received: {sorted(held) if isinstance(held, dict) else held}. "
                "Build it with dict inputs and outputs of these names."
            )
    return model


__all__ = [
    "ENCODERS",
    "audio_cnn",
    "audio_crnn",
    "audio_speech_transformer",
    "audio_wave_cnn",
    "get",
    "image_cnn",
    "sequence_lstm",
    "sequence_transformer",
    "series_patchtst",
    "series_tcn",
    "table_ft_transformer",
    "table_mlp",
    "image_inception",
    "image_resnet",
    "image_vit",
    "load_vectors",
    "text_bilstm",
    "text_bow",
    "text_char_cnn",
    "text_gru",
    "levels",
    "of",
    "pretrained",
    "raw",
    "several_shared",
    "text_lstm",
    "text_transformer",
    "vector_mlp",
    "video_cnn3d",
    "video_frames_lstm",
    "video_frames_transformer",
    "video_r2plus1d",
    "video_vivit",
]
