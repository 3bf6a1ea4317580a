"""Data sets of TensorFlow Datasets as a source of `table`."""

import os
from typing import Any

import numpy as np

from mmkeras.core.identifiers import nearest


def tfds(
    source: Any, split: str = "train", *, data_dir: str | os.PathLike | None = None
) -> dict[str, list]:
    """Returns the rows of a split as columns, for `mk.data.table`.

    Pictures stay encoded, texts bytes, sounds become float waves in [-1, 1), class numbers the
    names of their classes; nested features become `outer/inner`.

        train, test = (mk.data.tfds("mnist", split) for split in ("train", "test"))
        data = mk.data.table(train, {"image": mk.Image(size=28, channels=1)}, "label", test=test)

    Args:
        source: name of a data set, folder of a prepared one, or a builder. What is not prepared
            is downloaded and prepared.
        split: as TFDS writes it, e.g. "train[:80%]".
        data_dir: where TFDS keeps its data; its default when None.

    Raises:
        ImportError: tensorflow_datasets is not there.
        ValueError: no such data set or split.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError("TFDS needs: pip install 'mmkeras[tfds]'.") from error
    builder = _builder(tensorflow_datasets, source, data_dir)
    name = split.split("[")[0]
    if name not in builder.info.splits and name != "all":
        raise ValueError(
            f"The data set {builder.name!r} has no split {name!r}. "
            f"{nearest(name, builder.info.splits)}"
        )
    features = builder.info.features
    keep = tensorflow_datasets.decode.SkipDecoding()
    pictures = {
        key: keep
        for key, feature in features.items()
        if isinstance(feature, tensorflow_datasets.features.Image)
    }
    rows = list(tensorflow_datasets.as_numpy(builder.as_dataset(split=split, decoders=pictures)))
    columns: dict[str, list] = {}
    for key, feature in features.items():
        _add(tensorflow_datasets, columns, key, feature, [row[key] for row in rows])
    return columns


def _builder(library: Any, source: Any, data_dir: Any) -> Any:
    if not isinstance(source, str | os.PathLike):
        return source
    try:
        if os.path.isdir(source):
            return library.builder_from_directory(os.fspath(source))
        builder = library.builder(source, data_dir=data_dir)
        builder.download_and_prepare()
        return builder
    except Exception as error:  # a network, a registry or a folder: anything may be raised
        raise ValueError(
            f"A TFDS data set must be there. Received: {os.fspath(source)!r}: "
            f"{type(error).__name__}: {str(error)[:300]} Give the name of one, or the folder of a "
            "prepared one (that of features.json)."
        ) from error


def _add(library: Any, columns: dict, key: str, feature: Any, cells: list) -> None:
    """Adds a feature, those inside it by path."""
    if isinstance(feature, library.features.FeaturesDict):
        for name, inner in feature.items():
            _add(library, columns, f"{key}/{name}", inner, [cell[name] for cell in cells])
    elif isinstance(feature, library.features.ClassLabel):
        columns[key] = [None if cell < 0 else feature.int2str(int(cell)) for cell in cells]
    elif isinstance(feature, library.features.Audio):
        columns[key] = [np.asarray(cell, np.float32) / 32768.0 for cell in cells]
    else:
        columns[key] = cells
