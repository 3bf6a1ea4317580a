"""Export: the model and the decoders of its modalities in one SavedModel."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from mmkeras.core import Modality, checks, files
from mmkeras.core.identifiers import nearest
from mmkeras.data import decoder
from mmkeras.export.about import describe, vocabulary_file
from mmkeras.export.inputs import endpoint
from mmkeras.export.signatures import BAD
from mmkeras.export.signatures import signatures as made_of


def saved_model(
    model: keras.Model,
    modalities: Mapping[str, Modality],
    path: str | os.PathLike,
    *,
    data: Any = None,
    metrics: Mapping[str, float] | None = None,
    signatures: Sequence[str] | None = None,
    top_k: int = 5,
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

    An item that cannot be read is absent too, and fails no other row: `bad_input`, bool (B, M),
    tells which, the modalities in declared order. What counts as unreadable is what
    `mk.data.table(on_bad="mask")` masks (`mmkeras.data.tolerant`).

    Outputs: every head under its name, as the Keras model returns it, a contrastive objective's
    embeddings likewise (what other objectives return is for a training), and

        <head>_scores      (B, K) probabilities: softmax of a Classifier, sigmoid of a MultiLabel
        <head>_label       string (B,), the likeliest class of a Classifier
        <head>_labels      string (B, K) of a MultiLabel: the classes above 0.5, "" for the others
        <head>_top_labels  string (B, k) and <head>_top_scores (B, k): the k likeliest, in order

    Further signatures:
        decoded: the same outputs, of decoded tensors `<modality>` and masks `<modality>_mask`, for
            clients that decode by themselves. A mask that is left out is false: its value counts as
            absent. A row with ids beyond the vocabulary, NaN or infinity
            where the mask is true is a `bad_input`.
        embed: raw inputs -> embeddings by modality and fused, and `bad_input`; see
            `mmkeras.export.embed`. Of models with a fusion or a contrastive objective.
        explain: raw inputs -> what each modality contributes to the answer, and `bad_input`; see
            `mmkeras.export.explain`. Of models with heads of `mk.heads`.

    `assets.extra` holds `mmkeras.json` (see `mmkeras.export.about`) and the vocabularies.

    Args:
        model: what `assemble` returned (or any model on the same dict of inputs).
        modalities: the adapted specs that the data was decoded with (`data.modalities`).
        path: a version folder such as "serving/vqa/1"; must not exist. It appears whole or not
            at all.
        data: what the model was trained on; the hash of its training rows is kept.
        metrics: name -> number, kept as they are: what is known of this version.
        signatures: names of those to write; all that the model has when None.
        top_k: k; less where there are fewer classes.
        jit: compile the model of `serving_default` and `decoded`, not the decoding, with XLA,
            anew for each batch size. Stock TF Serving runs this on a CPU with
            `--xla_cpu_compilation_enabled=true` alone, and on a GPU not at all; sessions and the
            C API take it as it is.

    Returns:
        The folder.

    Raises:
        ValueError: the folder exists, the model's inputs are not those of the modalities, it has
            no such signature, or no output that can be served.
    """
    path = Path(path)
    checks.whole("top_k", top_k)
    _check(model, modalities, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        archive = keras.export.ExportArchive()
        archive.track(model)
        decoders = {}
        for name, modality in modalities.items():
            decoders[name] = decoder(modality, **vocabulary_file(scratch, name, modality))
            archive.track(decoders[name])
        made = _chosen(made_of(model, modalities, decoders, top_k, jit), signatures)
        for name, (function, inputs) in made.items():
            archive.add_endpoint(name, *endpoint(function, inputs))
        written = scratch / "model"
        archive.write_out(str(written), verbose=False)
        describe(written, model, modalities, list(made), data=data, metrics=metrics)
        files.flush(written)
        if path.exists():  # another process was faster
            raise _exists(path)
        os.replace(written, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return path


def _chosen(made: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    for name in names or ():
        if name not in made:
            raise ValueError(f"The model has no signature {name!r}. {nearest(name, list(made))}")
    return made if names is None else {name: made[name] for name in names}


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
    taken = {BAD, "present", "fused"} & {*modalities, *model.output_names}
    if taken:
        raise ValueError(
            "Outputs of the signatures are called 'bad_input', 'present' and 'fused'. Received: a "
            f"modality or head of the name {sorted(taken)[0]!r}. Rename it."
        )
