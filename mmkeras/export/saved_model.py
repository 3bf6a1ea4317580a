"""Export: the model and the decoders of its modalities in one SavedModel."""

import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import mmkeras
from mmkeras.core import Modality, to_json
from mmkeras.data import decoder
from mmkeras.heads import Classifier, MultiLabel, head_of


def saved_model(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    path: str | os.PathLike,
    *,
    jit: bool = False,
) -> Path:
    """Writes a SavedModel for TensorFlow Serving.

    The signature `serving_default` takes one optional raw input per modality: encoded JPEG, PNG,
    GIF or BMP bytes, WAV bytes, GIF or container bytes of a video (`mk.Video`), UTF-8 text
    (string, shape (B,)), numbers (float32, (B, F)), sequences of numbers (float32, (B, any number
    of steps, C), NaN where a step is not there), or the cells of a table as text (string, (B, C),
    empty where one is missing); of `mk.Several` K of them, (B, K, ...).
    An input that a request leaves out, an empty string and a NaN mean that the modality is absent
    (`SignatureDef.defaults`, which TF Serving fills in). Inputs hold B items or one for all.

    Outputs: every head under its name, as the Keras model returns it; for a Classifier also
    `<head>_scores` (softmax, (B, classes)) and `<head>_label` (string, (B,)), for a MultiLabel
    `<head>_scores` (sigmoid). `assets.extra` holds `mmkeras.json` (modalities and
    classes) and the vocabularies.

    Args:
        model: what `assemble` returned (or any model on the same dict of inputs).
        modalities: the adapted specs that the data was decoded with (`data.modalities`).
        path: a version folder such as "serving/vqa/1"; must not exist. It appears whole or not
            at all.
        jit: compile the model, not the decoding, with XLA, anew for each batch size. Stock TF
            Serving runs this on a CPU with `--xla_cpu_compilation_enabled=true` alone, and on a
            GPU not at all; sessions and the C API take it as it is.

    Returns:
        The folder.

    Raises:
        ValueError: the folder exists, or the model's inputs are not those of the modalities.
    """
    path = Path(path)
    _check(model, modalities, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        decoders = {}
        for name, modality in modalities.items():
            decoders[name] = decoder(modality, **_vocabulary_file(scratch, name, modality))
            archive.track(decoders[name])
        call = tf.function(
            lambda x: model(x, training=False), autograph=False, jit_compile=jit or None
        )
        archive.add_endpoint("serving_default", *_endpoint(model, call, modalities, decoders))
        written = scratch / "model"
        archive.write_out(str(written), verbose=False)
        _describe(written, model, modalities)
        if path.exists():  # another process was faster
            raise _exists(path)
        os.replace(written, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return path


def _exists(path: Path) -> ValueError:
    return ValueError(
        f"An export never overwrites a version. Received: {str(path)!r} exists. Export to the "
        "next version number, or remove the folder first."
    )


def _check(model: keras.Model, modalities: Mapping[str, Modality], path: Path) -> None:
    if path.exists():
        raise _exists(path)
    wanted = {key for name in modalities for key in (name, f"{name}_mask")}
    held = set(model.input) if isinstance(model.input, Mapping) else set()
    if wanted != held:
        raise ValueError(
            "The model must take a value and a mask per modality. Received: modalities "
            f"{sorted(modalities)}, inputs {sorted(held)}. Pass the `data.modalities` that the "
            "model was assembled from."
        )
    for name, modality in modalities.items():
        if not modality.adapted:
            raise ValueError(
                f"The modality {name!r} is not adapted. Pass `data.modalities`, not the specs "
                "given to mk.data.table."
            )


def _vocabulary_file(folder: Path, name: str, modality: Modality) -> dict:
    if modality.item.kind != "text":
        return {}
    file = folder / f"{name}_vocabulary.txt"
    file.write_text("\n".join(modality.item.vocabulary) + "\n", encoding="utf-8")
    return {"vocabulary_file": file}


def _endpoint(
    model: keras.Model,
    call: Any,
    modalities: Mapping[str, Modality],
    decoders: Mapping[str, Any],
) -> tuple[Any, list]:
    """Returns the serving function, one argument with a default per modality, and its specs."""

    def serve(*raw: Any) -> dict:
        batch = tf.reduce_max(tf.stack([tf.shape(r)[0] for r in raw]))
        x = {}
        for (name, decode), items in zip(decoders.items(), raw, strict=True):
            x[name], x[f"{name}_mask"] = decode(_repeat(name, items, batch))
        return _outputs(model, call(x))

    specs, parameters = [], []
    for name, modality in modalities.items():
        dtype = tf.as_dtype(modality.raw_dtype)
        specs.append(tf.TensorSpec((None, *modality.raw_shape), dtype, name=name))
        one = tf.constant("" if dtype == tf.string else float("nan"), dtype)
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=tf.fill([1, *(n or 1 for n in modality.raw_shape)], one),
            )
        )
    serve.__signature__ = inspect.Signature(parameters)
    return serve, specs


def _repeat(name: str, items: Any, batch: Any) -> Any:
    """Repeats a single item to the batch; other counts must match."""
    count = tf.shape(items)[0]
    check = tf.debugging.Assert(
        (count == batch) | (count == 1),
        [f"the input {name!r} must hold as many items as the others, or one. Received:", count],
    )
    with tf.control_dependencies([check]):
        return tf.repeat(items, tf.where(count == batch, 1, batch), axis=0)


def _outputs(model: keras.Model, predictions: dict) -> dict:
    out = dict(predictions)
    for name, value in predictions.items():
        head = head_of(model, name)
        if isinstance(head, Classifier):
            out[f"{name}_scores"] = tf.nn.softmax(value)
            out[f"{name}_label"] = tf.gather(tf.constant(head.classes), tf.argmax(value, axis=1))
        elif isinstance(head, MultiLabel):
            out[f"{name}_scores"] = tf.sigmoid(value)
    return out


def _describe(folder: Path, model: keras.Model, modalities: Mapping[str, Modality]) -> None:
    classes = {
        name: list(head_of(model, name).classes)
        for name in model.output_names
        if hasattr(head_of(model, name), "classes")
    }
    about = {
        **json.loads(to_json(modalities)),
        "classes": classes,
        "versions": {
            "mmkeras": mmkeras.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }
    extra = folder / "assets.extra"
    extra.mkdir()
    for name, modality in modalities.items():
        _vocabulary_file(extra, name, modality)
    (extra / "mmkeras.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n")
